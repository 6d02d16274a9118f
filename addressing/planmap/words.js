// What the page says, in both languages.

const WORDS = {
  zh: {
    find: "搜索名称、代码、地址或前缀（按 /）", other: "English", otherLang: "en", print: "打印", themes: { auto: "明暗：自动", light: "明", dark: "暗" },
    all: "全部地址池", up: "上一级", zoom: "进入", fit: "只看已用部分", copy: "复制", copied: "已复制", name: "名称", code: "代码", prefix: "前缀",
    level: "层级", state: "状态", hd: "HD 比率", hdWhy: "RFC 3194：log(非空闲槽位) ÷ log(总数)；0.80 以下宽松，0.85 以上过满", slots: "槽位", of: (n, l) => `${n} 个 /${l}`, parent: "行政上级",
    into: "并入", children: "下级", more: (n) => `再显示 ${n} 个`, none: "没有找到", outside: "不在本规划的地址池内", holds: "所在的最小地址块",
    found: (n) => `共 ${n} 个`, subnets: "个 /64 子网", addresses: "个地址", one: "一个 /64 子网，不再划分", single: "一个地址", freeBlock: "空闲地址块", reservedBlock: "保留地址块", ownBlock: "上级自用地址块", own: "自用", where: "在整个地址空间中的位置",
    group: "地址段", zone: "区域", old: "此浏览器太旧，无法解压数据。请使用较新的 Chrome 或 Edge（86 以上）、Firefox（113 以上）、Safari（16.4 以上）。", broken: "数据损坏，请重新生成此文件。",
    states: { used: "已用", reserved: "保留", quarantined: "隔离", absorbed: "已并入", free: "空闲", part: "部分已用" },
    keys: "单击选择，双击或回车进入，Esc 返回；方向键移动，滚轮缩放。格子按地址逐行排列：先左后右，自上而下；行列数字为槽位（十六进制）。",
    kinds: { province: "省级", city: "地级", county: "县级", town: "乡级", village: "村级", subnet: "子网", plane: "业务平面", site: "站点", lan: "局域网", loopback: "环回地址",
      loopbacks: "环回地址区", link: "互联链路", links: "互联链路区", hairpin: "核心内部链路", lan4: "IPv4 局域网", link4: "IPv4 链路", infra: "基础设施", pool: "地址池", management: "管理地址区", srv6: "SRv6 定位符" },
    zones: { public: "公用网络区", dedicated: "专用网络区", internet: "互联网接入区", shared: "共享区", management: "管理区" },
  },
  en: {
    find: "Find a name, code, address or prefix (press /)", other: "中文", otherLang: "zh", print: "Print", themes: { auto: "Theme: auto", light: "Light", dark: "Dark" },
    all: "All pools", up: "Up", zoom: "Zoom in", fit: "Used part only", copy: "Copy", copied: "Copied", name: "Name", code: "Code", prefix: "Prefix",
    level: "Level", state: "State", hd: "HD ratio", hdWhy: "RFC 3194: log(slots not free) ÷ log(all); comfortable to 0.80, too full from 0.85", slots: "Slots", of: (n, l) => `${n} of /${l}`, parent: "Administrative parent",
    into: "Absorbed by", children: "Inside", more: (n) => `Show ${n} more`, none: "Nothing found", outside: "In no pool of this plan", holds: "The innermost block around it",
    found: (n) => `${n} in all`, subnets: "subnets of /64", addresses: "addresses", one: "One /64 subnet, not divided further", single: "One address", freeBlock: "Free block", reservedBlock: "Reserved block", ownBlock: "The division's own block", own: "own", where: "Where it lies in the whole",
    group: "Block", zone: "Zone", old: "This browser is too old to unpack the data. Use Chrome or Edge 86, Firefox 113, Safari 16.4 or later.", broken: "The data are damaged; make this file again.",
    states: { used: "Used", reserved: "Reserved", quarantined: "Quarantined", absorbed: "Absorbed", free: "Free", part: "Partly used" },
    keys: "Click selects, double click or Enter zooms in, Esc goes up; arrows move, the wheel zooms. Cells go row by row in address order; row and column numbers are slots (hex).",
    kinds: { province: "Province", city: "City", county: "County", town: "Town", village: "Village", subnet: "Subnet", plane: "Plane", site: "Site", lan: "LAN", loopback: "Loopback",
      loopbacks: "Loopbacks", link: "Link", links: "Links", hairpin: "Hairpin", lan4: "IPv4 LAN", link4: "IPv4 link", infra: "Infrastructure", pool: "Pool", management: "Management", srv6: "SRv6 locators" },
    zones: { public: "public", dedicated: "dedicated", internet: "internet", shared: "shared", management: "management" },
  },
};
let lang = ABOUT.lang;
const say = (key) => WORDS[lang][key];
const number = (n) => typeof n === "bigint" || n < 1e15 ? n.toLocaleString(lang === "zh" ? "zh-CN" : "en") : "2^" + Math.round(Math.log2(n));

