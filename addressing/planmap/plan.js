"use strict";
// plan.js, words.js and page.js go into the page as one script.
//
// The plan in the page: columns in the order of addresses, each block followed by what lies in it; and what is asked of
// them. Only what is on the screen is ever built.

const byId = (id) => document.getElementById(id);
const ABOUT = JSON.parse(byId("about").textContent);

// --- addresses: IPv6 as one big number; IPv4 as its mapped IPv6 (RFC 4291, 2.5.5.2) --------------------------------------

const big = (n) => BigInt(n);
const sizeOf = (len) => 1n << big(128 - len);
const isV4 = (base, len) => len >= 96 && base >> 32n === 0xffffn;
const clean = (text) => text.normalize("NFKC").replace(/[\u200b\u200e\u200f\u2060\ufeff]/g, "").replace(/。/g, ".").trim();

function parseV4(text) {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!parts || parts.slice(1).some((p) => p > 255 || (p.length > 1 && p[0] === "0"))) return null;
  return parts.slice(1).reduce((sum, p) => sum * 256n + big(p), 0n);
}

function parseV6(text) {
  const tail = text.slice(text.lastIndexOf(":") + 1);
  if (tail.includes(".")) {
    const four = parseV4(tail);
    if (four === null) return null;
    text = text.slice(0, text.length - tail.length) + (four >> 16n).toString(16) + ":" + (four & 0xffffn).toString(16);
  }
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const groups = halves.map((half) => (half === "" ? [] : half.split(":")));
  if (!groups.every((list) => list.every((g) => /^[0-9a-f]{1,4}$/i.test(g)))) return null;
  const given = groups.reduce((sum, list) => sum + list.length, 0);
  if (halves.length === 2 ? given > 7 : given !== 8) return null;
  const zeros = halves.length === 2 ? Array(8 - given).fill("0") : [];
  return [...groups[0], ...zeros, ...(groups[1] || [])].reduce((sum, g) => (sum << 16n) | big("0x" + g), 0n);
}

// A prefix with its host bits cut off, or an address as one of full length; null if it is neither.
function parsePrefix(typed) {
  const parts = clean(typed).split("/").map((p) => p.trim());
  if (parts.length > 2 || !/[:.]/.test(parts[0])) return null;
  const four = parseV4(parts[0]);
  let value = four === null ? parseV6(parts[0]) : (0xffffn << 32n) | four;
  const most = four === null ? 128 : 32;
  if (value === null && parts.length === 1) {
    // "3fff:329:4" is on its way to something longer: as far as it goes, it is 3fff:329:4::/48.
    const begun = parts[0].replace(/:$/, "");
    value = begun.includes("::") ? null : parseV6(begun + "::");
    if (value !== null) parts.push(String(16 * begun.split(":").length));
  }
  if (value === null) return null;
  if (parts.length === 2 && !/^\d{1,3}$/.test(parts[1])) return null;
  const length = parts.length === 2 ? Number(parts[1]) : most;
  if (length > most) return null;
  const len = length + 128 - most;
  return { base: value & ~(sizeOf(len) - 1n), len };
}

function formatAddress(value) {
  if (value >> 32n === 0xffffn) return [24n, 16n, 8n, 0n].map((s) => (value >> s) & 255n).join(".");
  const groups = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(((value >> shift) & 0xffffn).toString(16));
  let best = -1, run = 1;
  for (let i = 0; i < 8; i++) {
    let j = i;
    while (j < 8 && groups[j] === "0") j++;
    if (j - i > run) { best = i; run = j - i; }
    if (j > i) i = j;
  }
  return best < 0 ? groups.join(":") : groups.slice(0, best).join(":") + "::" + groups.slice(best + run).join(":");
}
const shown = (len, base) => (isV4(base, len) ? len - 96 : len);
const formatPrefix = (b) => `${formatAddress(b.base)}/${shown(b.len, b.base)}`;

// --- the data -------------------------------------------------------------------------------------------------------

const data = {};

async function unpack() {
  const holder = byId("packed");
  const text = atob(holder.textContent.trim());
  holder.remove();
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const all = new Uint8Array(await new Response(stream).arrayBuffer());
  const column = {};
  let at = 0;
  for (const [name, size] of ABOUT.columns) {
    column[name] = all.subarray(at, at + size);
    at += size;
  }
  const n = ABOUT.rows;
  Object.assign(data, { n, len: column.length, kind: column.kind, state: column.state, template: column.template, high: fromPlanes(column.high, n), low: fromPlanes(column.low, n) });
  data.parent = new Int32Array(n);
  data.end = new Int32Array(n);
  const around = [];
  for (let row = 0; row < n; row++) {
    while (around.length > column.depth[row]) data.end[around.pop()] = row;
    data.parent[row] = around.length ? around[around.length - 1] : -1;
    around.push(row);
  }
  for (const row of around) data.end[row] = n;
  data.names = linesOf(new TextDecoder().decode(column.name));
  // Codes are needed for the panel and for search only: they are put together at the first use.
  data.code = (row) => (data.codes = data.codes || linesOf(frontDecoded(column.shared, column.code))).line(row);
  data.answered = new Map(ABOUT.answered);
}

function fromPlanes(planes, n) {
  const out = new Uint8Array(n * 8);
  for (let p = 0; p * n < planes.length; p++)
    for (let i = 0, value = 0; i < n; i++) out[i * 8 + 7 - p] = value = (value + planes[p * n + i]) & 255;
  return new BigUint64Array(out.buffer);
}

function frontDecoded(shared, rests) {
  let total = rests.length + 1;
  for (const k of shared) total += k;
  const out = new Uint8Array(total);
  let to = 0, from = 0, before = 0;
  for (let row = 0; row < shared.length; row++) {
    const start = to;
    for (let k = 0; k < shared[row]; k++) out[to++] = out[before + k];
    while (from < rests.length && rests[from] !== 10) out[to++] = rests[from++];
    from++;
    out[to++] = 10;
    before = start;
  }
  return new TextDecoder().decode(out.subarray(0, to - 1));
}

// One long text and where its lines begin: searched as one, cut only where shown.
function linesOf(text) {
  const starts = new Uint32Array(data.n + 1);
  for (let row = 1, at = 0; row <= data.n; row++) {
    const next = text.indexOf("\n", at);
    starts[row] = at = next < 0 ? text.length + 1 : next + 1;
  }
  let folded = null;
  return {
    line: (row) => text.slice(starts[row], starts[row + 1] - 1),
    find(what, most) {
      // Only ASCII is folded, so that places stay the same.
      const fold = (t) => t.replace(/[A-Z]+/g, (c) => c.toLowerCase());
      folded = folded === null ? fold(text) : folded;
      const rows = [], wanted = fold(what);
      for (let at = folded.indexOf(wanted); at >= 0 && rows.length < most; ) {
        let low = 0, high = data.n;
        while (high - low > 1) { const mid = (low + high) >> 1; if (starts[mid] <= at) low = mid; else high = mid; }
        rows.push(low);
        at = folded.indexOf(wanted, starts[low + 1]);
      }
      return rows;
    },
  };
}

const baseOf = (row) => (data.high[row] << 64n) | data.low[row];
const blockOf = (row) => ({ base: baseOf(row), len: data.len[row], row, part: null });
const covers = (a, base, len) => a.len <= len && base >= a.base && base < a.base + sizeOf(a.len);
const keyOf = (b) => (b ? `${b.base}/${b.len}` : "");

// The innermost row around a block (-1: none): the last that is not after it, or one around that.
function ownerOf(base, len) {
  let low = -1, high = data.n;
  while (high - low > 1) {
    const mid = (low + high) >> 1, value = baseOf(mid);
    if (value < base || (value === base && data.len[mid] <= len)) low = mid; else high = mid;
  }
  while (low >= 0 && !covers(blockOf(low), base, len)) low = data.parent[low];
  return low;
}

function blockAt(base, len) {
  const row = ownerOf(base, len);
  if (row >= 0 && data.len[row] === len) return blockOf(row);
  return partsOf(row).find((b) => b.base === base && b.len === len) || { base, len, row: -1, part: null };
}

// A division's site template: parts of its own area, the same for all of a kind, so not in the data.
function partsOf(row) {
  if (row < 0 || data.state[row] !== 0) return [];
  const base = baseOf(row);
  return ABOUT.templates[data.template[row]].map(([name, zone, slot, len]) => ({ base: base + (big(slot) << big(128 - len)), len, row: -1, part: { name, zone, of: row } }));
}

// What lies directly inside a block, in address order; all roots when there is no block.
function itemsIn(block) {
  const items = [];
  if (!block) {
    for (let row = 0; row < data.n; row = data.end[row]) items.push(blockOf(row));
    return items.sort((a, b) => isV4(a.base, a.len) - isV4(b.base, b.len));
  }
  const owner = ownerOf(block.base, block.len);
  const [from, to] = owner < 0 ? [0, data.n] : [owner + 1, data.end[owner]];
  // A part may be all of its division, but no part lies in itself.
  const whole = owner >= 0 && data.len[owner] === block.len;
  const inside = (b) => covers(block, b.base, b.len) && (b.len > block.len || (b.part && whole));
  for (let row = from; row < to; row = data.end[row]) if (inside(blockOf(row))) items.push(blockOf(row));
  const parts = partsOf(owner).filter(inside);
  return parts.length ? items.concat(parts).sort((a, b) => (a.base < b.base ? -1 : a.base > b.base ? 1 : a.len - b.len)) : items;
}

const stateOf = (item) => (item.part ? "used" : ["used", "quarantined", "absorbed"][data.state[item.row]]);
const kindOf = (b) => (b.part ? say("kinds").subnet : b.row < 0 ? say("group") : say("kinds")[ABOUT.kinds[data.kind[b.row]]] || ABOUT.kinds[data.kind[b.row]]);
const nameOf = (b) => (b.part ? b.part.name : (b.row >= 0 && data.names.line(b.row)) || kindOf(b));
const shortName = (b) => nameOf(b).replace(/(村民|居民)?委员会$|便民服务(站|中心)$/, "") || nameOf(b);

// --- looking into a block: its grid of slots ----------------------------------------------------------------------------

const looks = new Map();

function lookInto(block) {
  const key = keyOf(block);
  if (!looks.has(key)) {
    if (looks.size > 800) looks.clear();
    looks.set(key, block ? divide(block) : besideEachOther(itemsIn(null)));
  }
  return looks.get(key);
}

function besideEachOther(items) {
  const cells = items.map((item) => ({ items: [item], exact: item, state: stateOf(item), tally: {} }));
  return { block: null, items, full: 0, grid: 0, bits: 0, cells, counts: null };
}

// Slots are of the next field's length (`full`); a grid shows at most 8 bits at once, so wider fields come in groups.
function divide(block) {
  const owner = ownerOf(block.base, block.len), within = partsOf(owner).some((b) => covers(b, block.base, block.len));
  const items = within ? [] : itemsIn(block), v4 = isV4(block.base, block.len);
  const rungs = v4 || block.len >= 64 ? [] : [...ABOUT.fields.map((f) => f[0]), 64];
  const full = Math.min(129, ...rungs.filter((r) => r > block.len), ...items.map((i) => i.len));
  const look = { block, items, full: full > 128 ? 0 : full, grid: 0, bits: 0, cells: [], counts: null };
  if (!look.full) return look;
  look.grid = Math.min(full, block.len + 8);
  look.bits = look.grid - block.len;
  const deep = 128n - big(full), wide = big(full - look.grid);
  const empty = within ? "used" : owner >= 0 ? { used: "free" }[stateOf(blockOf(owner))] || stateOf(blockOf(owner)) : "free";
  look.cells = Array.from({ length: 1 << look.bits }, () => ({ items: [], exact: null, state: empty, tally: {} }));
  const slots = new Map();
  for (const item of items) {
    const slot = (item.base - block.base) >> deep, cell = look.cells[Number(slot >> wide)];
    cell.items.push(item);
    if (item.len === look.grid) cell.exact = cell.exact || item;
    if (item.len === full || !slots.has(slot)) slots.set(slot, item.len === full ? stateOf(item) : "used");
  }
  const field = ABOUT.fields.find((f) => f[0] === full);
  if (field && !v4 && (items.length || (owner >= 0 && data.len[owner] === block.len))) {
    const first = (block.base >> deep) & ((1n << big(field[1])) - 1n), count = 1n << big(full - block.len);
    for (const kept of field[2]) {
      const slot = big(kept) - first;
      const there = slot >= 0n && slot < count ? look.cells[Number(slot >> wide)] : null;
      // Content of a reserved slot is its owner's own: the slot is no division's.
      if (there && !items.some((i) => i.len === full && (i.base - block.base) >> deep === slot)) slots.set(slot, "reserved");
    }
  }
  const counts = (look.counts = { used: 0, reserved: 0, quarantined: 0, absorbed: 0, free: 0, all: 2 ** (full - block.len) });
  for (const [slot, state] of slots) {
    const tally = look.cells[Number(slot >> wide)].tally;
    tally[state] = (tally[state] || 0) + 1;
    counts[state]++;
  }
  counts[empty] += counts.all - slots.size;
  for (const cell of look.cells) {
    const states = Object.keys(cell.tally);
    if (full === look.grid && states.length) cell.state = states[0] === "used" && !cell.exact ? "part" : states[0];
    else if (states.length) cell.state = states.every((s) => s === "reserved") && !cell.items.length && empty === "free" ? "free" : "part";
  }
  return look;
}

// As addressing.ratios has it, of everything that is not free, reserved slots too. What is gone has none: nothing is given in it.
function hdRatio(look) {
  const owner = ownerOf(look.block.base, look.block.len);
  if (owner >= 0 && data.state[owner]) return null;
  const given = look.counts ? look.counts.all - look.counts.free : 0, bits = look.full - look.block.len;
  return given > 0 && bits > 0 ? Math.log2(given) / bits : null;
}

const cellBlock = (look, i) => {
  if (look.cells[i].exact) return look.cells[i].exact;
  return blockAt(look.block.base + (big(i) << big(128 - look.grid)), look.grid);
};
const canEnter = (b) => (b.row >= 0 || b.part ? lookInto(b).cells.length > 0 : itemsIn(b).length > 0);

// The narrowest block around everything in use here that still makes a grid of some size.
function usedPart(block, least, most) {
  const items = itemsIn(block);
  if (!items.length) return block;
  const last = items.reduce((m, i) => (i.base + sizeOf(i.len) > m ? i.base + sizeOf(i.len) : m), 0n) - 1n;
  const common = 128 - (items[0].base === last ? 0 : (items[0].base ^ last).toString(2).length);
  const len = Math.max(least, Math.min(common, most));
  return len > block.len ? blockAt(items[0].base & ~(sizeOf(len) - 1n), len) : block;
}

// Grids with everything in one undivided cell are passed over on the way in.
function settle(block) {
  const look = lookInto(block), busy = look.cells.filter((c) => c.items.length);
  if (!block || busy.length !== 1 || busy[0].exact) return block;
  return usedPart(block, look.grid, Math.min(...look.items.map((i) => i.len)) - 8);
}

