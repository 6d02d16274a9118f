// What is seen and done. Texts of the plan reach the page as text, never as markup.

// --- drawing ----------------------------------------------------------------------------------------------------------

const canvas = byId("map");
const pen = canvas.getContext("2d");
let palette = {}, current = null, picked = -1, hovered = -1, picture = null, moving = null, stage = { w: 0, h: 0, dpr: 1 }, printing = false;
const still = matchMedia("(prefers-reduced-motion: reduce)"), darkness = matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";

function readPalette() {
  document.documentElement.dataset.theme = theme === "auto" ? (darkness.matches ? "dark" : "light") : theme;
  const css = getComputedStyle(document.documentElement);
  const get = (name) => css.getPropertyValue("--" + name).trim();
  palette = {};
  for (const name of ["card", "ink", "soft", "line", "accent", "used", "used-soft", "used-ink", "free", "free-mark", "mark", "reserved", "reserved-soft", "quarantined", "quarantined-soft", "absorbed", "absorbed-soft"]) palette[name] = get(name);
  // Each state has its own pattern too, so that it is told apart without colour.
  palette.patterns = {
    free: pattern("free", (p) => { p.fillStyle = palette["free-mark"]; p.fillRect(3, 3, 1.6, 1.6); }),
    reserved: pattern("reserved-soft", (p) => stroke(p, "reserved", [[-2, 10, 10, -2], [-2, 2, 2, -2], [6, 10, 10, 6]])),
    quarantined: pattern("quarantined-soft", (p) => stroke(p, "quarantined", [[0, 0, 8, 8], [0, 8, 8, 0]])),
    absorbed: pattern("absorbed-soft", (p) => stroke(p, "absorbed", [[0, 2, 8, 2], [0, 6, 8, 6]])),
  };
}

function pattern(ground, draw) {
  const tile = document.createElement("canvas"), scale = window.devicePixelRatio || 1;
  tile.width = tile.height = 8 * scale;
  const p = tile.getContext("2d");
  p.scale(scale, scale);
  p.fillStyle = palette[ground];
  p.fillRect(0, 0, 8, 8);
  draw(p);
  const made = pen.createPattern(tile, "repeat");
  made.setTransform(new DOMMatrix().scale(1 / scale));
  return made;
}

function stroke(p, color, lines) {
  p.strokeStyle = palette[color];
  p.lineWidth = 1;
  for (const [a, b, c, d] of lines) { p.beginPath(); p.moveTo(a, b); p.lineTo(c, d); p.stroke(); }
}

const fillOf = (state) => (state === "used" ? palette["used-soft"] : palette.patterns[state] || palette["used-soft"]);
const edgeOf = (state) => (state === "free" ? palette.line : palette[state] || palette.used);

function gridOf(look, w, h) {
  const n = look.cells.length, cols = look.block ? 1 << Math.ceil(look.bits / 2) : Math.ceil(Math.sqrt(n)), rows = Math.ceil(n / cols);
  const x = look.block ? 34 : 10, y = look.block ? 24 : 10;
  return { cols, rows, x, y, cw: (w - x - 10) / cols, ch: (h - y - 10) / rows };
}

// The rectangle of cells first..last: an aligned block of slots is always one, as rows are powers of two.
function rectOf(grid, first, last = first) {
  const [c0, r0, c1, r1] = [first % grid.cols, Math.floor(first / grid.cols), last % grid.cols, Math.floor(last / grid.cols)];
  return { x: grid.x + c0 * grid.cw, y: grid.y + r0 * grid.ch, w: (c1 - c0 + 1) * grid.cw, h: (r1 - r0 + 1) * grid.ch };
}

function rounded(p, x, y, w, h, r) {
  p.beginPath();
  p.moveTo(x + r, y);
  p.arcTo(x + w, y, x + w, y + h, r);
  p.arcTo(x + w, y + h, x, y + h, r);
  p.arcTo(x, y + h, x, y, r);
  p.arcTo(x, y, x + w, y, r);
  p.closePath();
}

function drawLook(p, look, w, h) {
  p.fillStyle = palette.card;
  p.fillRect(0, 0, w, h);
  if (!look.cells.length) return drawLeaf(p, look.block, w, h);
  const grid = gridOf(look, w, h);
  if (look.block) drawAxes(p, look, grid);
  look.cells.forEach((cell, i) => drawCell(p, look, i, rectOf(grid, i)));
}

function drawLeaf(p, block, w, h) {
  p.fillStyle = palette["used-soft"];
  p.strokeStyle = palette.used;
  rounded(p, w * .2, h * .3, w * .6, h * .4, 14);
  p.fill();
  p.stroke();
  p.fillStyle = palette["used-ink"];
  p.textAlign = "center";
  p.textBaseline = "middle";
  p.font = "600 20px system-ui, sans-serif";
  p.fillText(nameOf(block), w / 2, h * .46, w * .55);
  p.font = "15px ui-monospace, monospace";
  p.fillText(formatPrefix(block), w / 2, h * .55, w * .55);
}

function drawAxes(p, look, grid) {
  p.fillStyle = palette.soft;
  p.font = "11px ui-monospace, 'DejaVu Sans Mono', Consolas, monospace";
  p.textAlign = "center";
  p.textBaseline = "middle";
  const digits = Math.ceil(look.bits / 4);
  for (let c = 0; c < grid.cols; c++) p.fillText("+" + c.toString(16), grid.x + (c + .5) * grid.cw, 13);
  for (let r = 0; r < grid.rows; r++) p.fillText((r * grid.cols).toString(16).padStart(digits, "0"), 18, grid.y + (r + .5) * grid.ch);
}

function drawCell(p, look, i, box) {
  const cell = look.cells[i], part = cell.items.length > 0 && !cell.exact, several = look.full > look.grid;
  const gap = Math.min(box.w, box.h) > 12 ? 1.5 : .5, x = box.x + gap, y = box.y + gap, w = box.w - 2 * gap, h = box.h - 2 * gap;
  rounded(p, x, y, w, h, Math.min(5, h / 4));
  p.fillStyle = fillOf(cell.state === "part" ? "free" : cell.state);
  p.fill();
  if (several && cell.state === "part") drawGauge(p, look, cell, x, y, w, h);
  p.lineWidth = 1;
  p.strokeStyle = edgeOf(cell.state === "part" ? "used" : cell.state);
  if (cell.state !== "free" || box.w > 8) p.stroke();
  if (!cell.items.length || (several && part)) return;
  const large = w >= 44 && h >= 40 && (part || cell.items.length === 1), inside = large ? lookInto(cellBlock(look, i)).cells : [];
  const named = w >= 30 && h >= 15, left = named ? drawLabel(p, cell, x, y, w, inside.length ? Math.max(16, h * .45) : h, inside.length > 0) : 3;
  if (inside.length) drawInside(p, lookInto(cellBlock(look, i)), x + 5, y + left + 2, w - 10, h - left - 7);
  else if (!named) { p.fillStyle = palette[cell.state] || palette.used; p.fillRect(x + w * .2, y + h * .2, w * .6, h * .6); }
}

// How full a cell is that stands for several slots.
function drawGauge(p, look, cell, x, y, w, h) {
  const slots = 2 ** (look.full - look.grid), given = Object.values(cell.tally).reduce((sum, n) => sum + n, 0);
  const high = Math.max(3, Math.min(1, given / slots) * (h - 2));
  p.fillStyle = palette.used;
  p.globalAlpha = .55;
  p.fillRect(x + 1, y + h - 1 - high, w - 2, high);
  p.globalAlpha = 1;
  if (w < 34 || h < 18) return;
  p.fillStyle = palette.ink;
  p.font = "11px system-ui, sans-serif";
  p.textAlign = "center";
  p.textBaseline = "middle";
  const one = cell.items.length === 1 && cell.items[0].len === look.full;
  p.fillText(one ? shortName(cell.items[0]) : slots < 1e6 ? `${given}/${slots}` : String(given), x + w / 2, y + h / 2, w - 4);
}

// Returns how far down the label goes.
function drawLabel(p, cell, x, y, w, h, roomy) {
  const more = cell.items.length > 1 ? ` +${cell.items.length - 1}` : "";
  const name = cell.state === "reserved" ? say("own") : shortName(cell.exact || cell.items[0]) + more;
  const size = w > 130 && h > 40 ? 14 : h > 24 && (w > 64 || name.length * 12 <= w - 7) ? 12 : 10.5;
  const lines = [], most = Math.max(1, Math.floor((h - 2) / (size + 2)));
  p.font = `${size > 12 ? "600 " : ""}${size}px system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif`;
  p.textAlign = "left";
  p.textBaseline = "top";
  let line = "";
  for (const letter of name) {
    if (line && p.measureText(line + letter).width > w - 7) { lines.push(line); line = ""; }
    line += letter;
  }
  lines.push(line);
  if (lines.length > most) { lines.length = most; lines[most - 1] = lines[most - 1].slice(0, -1) + "…"; }
  if (!roomy && h > lines.length * (size + 2) + 2) y += (h - lines.length * (size + 2) - 2) / 2;
  const plain = cell.state !== "used";
  lines.forEach((text, i) => {
    const top = y + 4 + i * (size + 2);
    if (plain) { p.fillStyle = palette.card; p.globalAlpha = .8; p.fillRect(x + 2, top - 1, p.measureText(text).width + 4, size + 3); p.globalAlpha = 1; }
    p.fillStyle = plain ? palette.ink : palette["used-ink"];
    p.fillText(text, x + 4, top);
  });
  let down = 4 + lines.length * (size + 2);
  if (!cell.exact) return down;
  const prefix = formatPrefix(cell.exact);
  p.font = "11px ui-monospace, 'DejaVu Sans Mono', Consolas, monospace";
  if (size === 14 && p.measureText(prefix).width < w - 8) { p.fillStyle = palette.soft; p.fillText(prefix, x + 4, y + down + 1); down += 15; }
  return down;
}

// A cell's own slots, small: where it is full and where it is not.
function drawInside(p, look, x, y, w, h) {
  if (!look.cells.length || h < 6) return;
  const cols = 1 << Math.ceil(look.bits / 2), rows = look.cells.length / cols, cw = w / cols, ch = h / rows;
  p.fillStyle = palette.card;
  p.globalAlpha = .6;
  p.fillRect(x, y, w, h);
  p.globalAlpha = 1;
  const gap = Math.min(cw, ch) > 4 ? .75 : .25;
  look.cells.forEach((cell, i) => {
    if (cell.state === "free") return;
    p.fillStyle = cell.state === "part" ? palette.used : palette[cell.state];
    p.fillRect(x + (i % cols) * cw + gap, y + Math.floor(i / cols) * ch + gap, Math.max(1, cw - 2 * gap), Math.max(1, ch - 2 * gap));
  });
}

function fit() {
  const box = canvas.parentElement.getBoundingClientRect(), dpr = printing ? 2 : window.devicePixelRatio || 1;
  stage = { w: Math.max(200, box.width - 2), h: Math.max(160, box.height - 2), dpr };
  canvas.width = Math.round(stage.w * dpr);
  canvas.height = Math.round(stage.h * dpr);
}

function paint(look) {
  const sheet = document.createElement("canvas");
  sheet.width = canvas.width;
  sheet.height = canvas.height;
  const p = sheet.getContext("2d");
  p.scale(stage.dpr, stage.dpr);
  drawLook(p, look, stage.w, stage.h);
  return sheet;
}

function show() {
  pen.setTransform(stage.dpr, 0, 0, stage.dpr, 0, 0);
  pen.drawImage(picture, 0, 0, stage.w, stage.h);
  const grid = gridOf(current, stage.w, stage.h);
  for (const [i, color, width] of [[hovered, palette.accent, 1.5], [picked, palette.mark, 3]]) {
    if (i < 0 || i >= current.cells.length) continue;
    const box = rectOf(grid, i);
    rounded(pen, box.x + 1, box.y + 1, box.w - 2, box.h - 2, Math.min(5, box.h / 4));
    pen.strokeStyle = color;
    pen.lineWidth = width;
    pen.stroke();
  }
}

function redraw() {
  fit();
  picture = paint(current);
  show();
}

// Zooms from one picture to the next: the wider one grows until the narrower one's place fills the stage, or back.
function animate(from, to, before, after) {
  const inward = to.block && (!from.block || covers(from.block, to.block.base, to.block.len));
  const [wide, narrow, outer, inner] = inward ? [from, to, before, after] : [to, from, after, before];
  const near = narrow.block && (!wide.block || covers(wide.block, narrow.block.base, narrow.block.len));
  if (still.matches || !near || document.hidden) { show(); return; }
  let first = wide.cells.findIndex((c) => c.exact && covers(c.exact, narrow.block.base, narrow.block.len)), last = first;
  if (wide.block && wide.grid) {
    const shift = big(128 - wide.grid);
    first = Number((narrow.block.base - wide.block.base) >> shift);
    last = Number((narrow.block.base + sizeOf(narrow.block.len) - 1n - wide.block.base) >> shift);
  }
  if (first < 0) { show(); return; }
  const place = rectOf(gridOf(wide, stage.w, stage.h), first, last), began = performance.now(), { w, h } = stage;
  const step = (now) => {
    const t = Math.min(1, (now - began) / 300), ease = t * t * (3 - 2 * t), k = inward ? ease : 1 - ease;
    const mix = (a, b) => a + (b - a) * k, x = mix(place.x, 0), y = mix(place.y, 0), iw = mix(place.w, w), ih = mix(place.h, h);
    pen.setTransform(stage.dpr, 0, 0, stage.dpr, 0, 0);
    const sx = iw / place.w, sy = ih / place.h;
    pen.drawImage(outer, x - place.x * sx, y - place.y * sy, w * sx, h * sy);
    pen.globalAlpha = Math.min(1, .15 + k);
    pen.drawImage(inner, x, y, iw, ih);
    pen.globalAlpha = 1;
    if (t < 1) moving = requestAnimationFrame(step);
    else { moving = null; show(); }
  };
  cancelAnimationFrame(moving);
  moving = requestAnimationFrame(step);
}

// --- going places: the address bar says where we are, so that back and forward work -------------------------------------

function hashOf(block, selected) {
  const parts = [`at=${block ? formatPrefix(block) : "all"}`];
  if (selected) parts.push(`sel=${formatPrefix(selected)}`);
  if (lang !== ABOUT.lang) parts.push(`lang=${lang}`);
  return "#" + parts.join("&");
}

function go(block, selected = null) {
  const hash = hashOf(block, selected);
  if (location.hash !== hash) location.hash = hash; else arrive();
}

function start() {
  const roots = itemsIn(null);
  return roots.find((r) => !isV4(r.base, r.len)) || roots[0];
}

function arrive() {
  let hash = location.hash.slice(1);
  try { hash = decodeURIComponent(hash); } catch (error) { /* then as it is */ }
  const said = new Map(hash.split("&").map((p) => p.split("=")));
  if (WORDS[said.get("lang") || ABOUT.lang]) lang = said.get("lang") || ABOUT.lang;
  const at = parsePrefix(said.get("at") || ""), several = itemsIn(null).length > 1;
  let block = at && ownerOf(at.base, at.len) >= 0 ? blockAt(at.base, at.len) : start();
  if (said.get("at") === "all" && several) block = null;
  const from = current, before = picture;
  current = lookInto(block);
  hovered = -1;
  byId("tip").hidden = true;
  const sel = parsePrefix(said.get("sel") || "");
  picked = sel ? current.cells.findIndex((c, i) => covers(cellBlock(current, i), sel.base, sel.len)) : -1;
  fit();
  picture = paint(current);
  if (from && before && keyOf(from.block) !== keyOf(block)) animate(from, current, before, picture); else show();
  describe();
}

function pick(i, quiet = false) {
  picked = i;
  const block = i < 0 ? null : cellBlock(current, i);
  try { history.replaceState(null, "", hashOf(current.block, block)); } catch (error) { /* a viewer may forbid it */ }
  if (!moving) show();
  describe();
  if (block && !quiet) byId("said").textContent = summary(block, current.cells[i]).join(", ");
}

function enter(i) {
  const block = i >= 0 ? cellBlock(current, i) : null;
  if (block && canEnter(block)) go(settle(block));
}

function above(block) {
  if (!block) return undefined;
  let row = ownerOf(block.base, block.len);
  if (row >= 0 && data.len[row] === block.len) row = data.parent[row];
  // Two rows may share a prefix; above means wider.
  while (row >= 0 && data.len[row] >= block.len) row = data.parent[row];
  return row >= 0 ? blockOf(row) : itemsIn(null).length > 1 ? null : undefined;
}

function up() {
  const next = above(current.block);
  if (next !== undefined) go(next, current.block);
}

// A block in its surroundings: the view around it, with it selected.
function reveal(block) {
  const around = above(block);
  let view = block.part ? blockOf(block.part.of) : around === undefined ? block : around;
  for (let depth = 0; view && depth < 16; depth++) {
    const look = lookInto(view), i = look.cells.findIndex((c, k) => covers(cellBlock(look, k), block.base, block.len));
    if (i < 0 || look.cells[i].exact || cellBlock(look, i).len >= block.len) break;
    view = usedPart(cellBlock(look, i), 0, block.len - 8);
  }
  go(view, view === block ? null : block);
}

// --- what is said beside the picture ---------------------------------------------------------------------------------

const SHOWN_STATES = ["used", "reserved", "quarantined", "absorbed", "free"];

function el(tag, props = {}, ...inside) {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...inside);
  return made;
}

function cellState(block, cell) {
  if (cell && !cell.exact) return cell.state;
  if (block.row >= 0 || block.part) return stateOf(block);
  return lookInto(block).items.length ? "part" : "free";
}

function summary(block, cell) {
  const state = cellState(block, cell);
  const named = block.row >= 0 || block.part ? nameOf(block) : state === "free" ? say("freeBlock") : state === "reserved" ? say(cell && cell.items.length ? "ownBlock" : "reservedBlock") : kindOf(block);
  const more = cell && cell.exact && cell.items.length > 1 ? cell.items.slice(1).map(nameOf) : [];
  return [[named, ...more].join(" · "), formatPrefix(block), [kindOf(block), say("states")[state]].join(" · ")];
}

function swatch(state) {
  const tile = el("canvas", { className: "swatch", width: 32, height: 32 }), p = tile.getContext("2d");
  p.scale(2, 2);
  p.fillStyle = fillOf(state);
  p.fillRect(0, 0, 16, 16);
  p.strokeStyle = edgeOf(state);
  p.lineWidth = state === "used" ? 3 : 2;
  p.strokeRect(0, 0, 16, 16);
  return tile;
}

function describe() {
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
  const block = current.block;
  // Breadcrumb: every block around this one.
  const trail = [];
  for (let b = block; b; b = above(b)) trail.unshift(b);
  if (itemsIn(null).length > 1) trail.unshift(null);
  byId("trail").replaceChildren(...trail.flatMap((b, i) => {
    const label = b ? `${nameOf(b)} ${b.row < 0 || !data.names.line(b.row) ? formatPrefix(b) : "/" + shown(b.len, b.base)}` : say("all");
    const button = el("button", { type: "button", textContent: label, onclick: () => go(b) });
    if (i === trail.length - 1) button.setAttribute("aria-current", "location");
    return i ? [el("span", { className: "sep", textContent: "›" }), button] : [button];
  }), el("span", { className: "gap" }), ...actions());
  const chosen = picked >= 0 ? cellBlock(current, picked) : block;
  byId("panel").replaceChildren(...panelOf(chosen, picked >= 0 ? current.cells[picked] : null));
  const counts = current.counts;
  byId("legend").replaceChildren(...SHOWN_STATES.map((state) => {
    const inside = [swatch(state), " " + say("states")[state] + " ", el("b", { textContent: counts ? number(counts[state]) : "" })];
    const lists = state === "quarantined" || state === "absorbed";
    return el("li", {}, lists ? el("button", { type: "button", onclick: () => ask(say("states")[state]) }, ...inside) : el("span", {}, ...inside));
  }), el("li", {}, el("small", { textContent: counts ? say("of")(number(counts.all), shown(current.full, block.base)) : "" })));
  byId("query").placeholder = say("find");
  byId("query").setAttribute("aria-label", say("find"));
  byId("lang").textContent = say("other");
  byId("theme").textContent = say("themes")[theme];
  byId("print").textContent = say("print");
  byId("keys").textContent = say("keys");
  canvas.setAttribute("aria-label", block ? `${nameOf(block)} ${formatPrefix(block)}` : say("all"));
  document.documentElement.dataset.view = block ? formatPrefix(block) : "all";
}

function actions() {
  const block = current.block, out = [], look = current;
  const part = block && look.bits > 2 ? usedPart(block, 0, look.full - 3) : block;
  const add = (text, does) => out.push(el("button", { type: "button", className: "act", textContent: text, onclick: does }));
  if (part && part.len > block.len && part.len < look.full) add(say("fit"), () => go(part));
  if (picked >= 0 && canEnter(cellBlock(current, picked))) add(say("zoom") + " ⏎", () => enter(picked));
  if (above(block) !== undefined) add("↑ " + say("up"), up);
  return out;
}

function panelOf(block, cell) {
  if (!block) return [el("h2", { textContent: say("all") }), childList(current.items)];
  const look = lookInto(block), [title, prefix] = summary(block, cell), state = cellState(block, cell);
  const copy = el("button", { type: "button", textContent: say("copy"), onclick: () => copyText(prefix, copy) });
  const facts = [], fact = (name, value) => { if (value !== "" && value !== null) facts.push(el("dt", { textContent: name }), el("dd", {}, value)); };
  fact(say("code"), block.row >= 0 ? el("span", { className: "mono", textContent: data.code(block.row) }) : block.part ? el("span", { className: "mono", textContent: data.code(block.part.of) }) : "");
  if (block.row >= 0 && !data.code(block.row)) facts.splice(0);
  fact(say("level"), kindOf(block));
  if (block.part) fact(say("zone"), say("zones")[block.part.zone] || block.part.zone);
  fact(say("state"), el("span", {}, swatch(state === "part" ? "used" : state), " " + say("states")[state]));
  const other = block.row >= 0 && data.answered.has(block.row) ? data.answered.get(block.row) : -1;
  if (other >= 0) fact(say(data.state[block.row] ? "into" : "parent"), el("button", { type: "button", textContent: `${data.names.line(other)} ${data.code(other)}`, onclick: () => reveal(blockOf(other)) }));
  const v4 = isV4(block.base, block.len);
  fact("", v4 || block.len > 64 ? (block.len === 128 ? say("single") : `${number(2 ** (128 - block.len))} ${say("addresses")}`) : block.len === 64 ? (look.cells.length ? "" : say("one")) : `${number(sizeOf(block.len) >> 64n)} ${say("subnets")}`);
  const out = [el("h2", { textContent: title }), el("div", { className: "line" }, el("span", { className: "mono", textContent: prefix }), copy), el("dl", {}, ...facts)];
  const owned = block.row >= 0 || look.items.length;
  if (look.counts && owned && state !== "free") {
    const c = look.counts, hd = hdRatio(look), rows = [];
    for (const s of SHOWN_STATES) rows.push(el("dt", {}, swatch(s), " " + say("states")[s]), el("dd", { textContent: number(c[s]) }));
    rows.push(el("dt", { textContent: say("hd"), title: say("hdWhy") }), el("dd", { title: say("hdWhy"), textContent: hd === null ? "–" : hd.toFixed(3) }));
    out.push(el("h3", { textContent: `${say("slots")}: ${say("of")(number(c.all), shown(look.full, block.base))}` }), shareBar(c), el("dl", {}, ...rows));
  }
  out.push(...whereabouts(block));
  const inside = cell && cell.exact && cell.items.length > 1 ? cell.items : look.items;
  if (inside.length) out.push(el("h3", { textContent: `${say("children")} (${number(inside.length)})` }), childList(inside));
  return out;
}

function shareBar(counts) {
  const bar = el("canvas", { id: "bar", width: 600, height: 24 }), p = bar.getContext("2d");
  let x = 0;
  for (const state of SHOWN_STATES) {
    const w = counts[state] ? Math.max(4, (counts[state] / counts.all) * 600) : 0;
    p.fillStyle = state === "used" ? palette.used : fillOf(state);
    p.fillRect(x, 0, w, 24);
    x += w;
  }
  return bar;
}

// One strip for each block around this one: its slots in a line, and where this one is.
function whereabouts(block) {
  const around = [];
  for (let b = above(block); b; b = above(b)) around.unshift(lookInto(b));
  const strips = around.filter((look) => look.bits).map((look) => {
    const strip = el("canvas", { className: "strip", width: 640, height: 36, title: `${nameOf(look.block)} ${formatPrefix(look.block)}`, onclick: () => go(look.block, block) });
    const p = strip.getContext("2d"), n = look.cells.length, step = 640 / n;
    p.fillStyle = palette["reserved-soft"];
    p.fillRect(0, 8, 640, 20);
    look.cells.forEach((cell, i) => {
      p.fillStyle = cell.state === "part" ? palette.used : palette[cell.state];
      if (cell.state !== "free") p.fillRect(i * step, 8, Math.max(1, step - (n < 65 ? 1 : 0)), 20);
    });
    const size = sizeOf(look.block.len), at = Number(((block.base - look.block.base) * 640000n) / size) / 1000, wide = Math.max(5, Number((sizeOf(block.len) * 640000n) / size) / 1000);
    p.strokeStyle = palette.mark;
    p.lineWidth = 4;
    p.strokeRect(Math.max(2, Math.min(at, 638 - wide)), 3, wide, 30);
    return el("div", {}, el("small", { textContent: `${nameOf(look.block)} /${shown(look.block.len, look.block.base)}` }), strip);
  });
  return strips.length ? [el("h3", { textContent: say("where") }), ...strips] : [];
}

function childList(items) {
  const list = el("ul", { className: "list" });
  const add = (first) => {
    for (const item of items.slice(first, first + 120)) {
      const state = stateOf(item), tail = formatPrefix(item);
      list.append(el("li", {}, el("button", { type: "button", onclick: () => reveal(item) }, ...(state === "used" ? [] : [swatch(state)]),
        el("span", { className: "who", textContent: nameOf(item) }), el("span", { className: "mono soft", textContent: tail }))));
    }
    const rest = items.length - first - 120;
    if (rest > 0) list.append(el("li", { className: "more" }, el("button", { type: "button", textContent: say("more")(Math.min(rest, 120)), onclick: (e) => { e.target.parentElement.remove(); add(first + 120); } })));
  };
  add(0);
  return list;
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch (error) {
    const area = el("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = say("copied");
}

// --- search -----------------------------------------------------------------------------------------------------------

let results = [], marked = -1;

function seek(text) {
  const address = parsePrefix(text);
  if (address) {
    const row = ownerOf(address.base, address.len);
    if (row < 0) return { note: say("outside"), list: [] };
    const part = partsOf(row).find((b) => covers(b, address.base, address.len));
    return { note: say("holds"), list: [part || blockOf(row)], exact: address };
  }
  const which = ["used", "quarantined", "absorbed"].findIndex((s) => Object.values(WORDS).some((w) => w.states[s].toLowerCase() === text.toLowerCase()));
  let rows = [];
  if (which > 0) for (let row = 0; row < data.n && rows.length < 5000; row++) { if (data.state[row] === which) rows.push(row); }
  if (which <= 0) {
    data.code(0);
    rows = [...new Set([...data.names.find(text, 5000), ...data.codes.find(text, 5000)])];
  }
  const rank = (row) => { const name = data.names.line(row); return name === text || data.code(row) === text ? 0 : name.startsWith(text) || data.code(row).startsWith(text) ? 1 : 2; };
  const sorted = rows.map((row) => [rank(row), data.len[row], row]).sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  return { note: rows.length ? say("found")(number(rows.length) + (rows.length >= 5000 ? "+" : "")) : say("none"), list: sorted.slice(0, 50).map((r) => blockOf(r[2])) };
}

function search() {
  const text = clean(byId("query").value), list = byId("found"), field = byId("query");
  const found = text ? seek(text) : { list: [] };
  results = found.list;
  marked = results.length ? 0 : -1;
  list.hidden = !text;
  field.setAttribute("aria-expanded", String(!!text));
  list.replaceChildren(...results.map((block, i) => {
    const around = [];
    for (let row = block.part ? block.part.of : data.parent[block.row]; row >= 0; row = data.parent[row]) if (data.parent[row] >= 0 || data.names.line(row)) around.unshift(nameOf(blockOf(row)));
    const item = el("li", { id: "hit" + i, onmousedown: (e) => { e.preventDefault(); choose(i); } }, el("div", { textContent: nameOf(block) + "  " }, el("small", { textContent: kindOf(block) + " " + (block.row >= 0 ? data.code(block.row) : "") })),
      el("small", { className: "mono", textContent: formatPrefix(block) + "  " }), el("small", { textContent: around.join(" › ") }));
    item.setAttribute("role", "option");
    return item;
  }), ...(found.note ? [el("li", { className: "note", textContent: found.note })] : []));
  mark(marked);
}

function mark(i) {
  marked = i;
  byId("found").querySelectorAll("[role=option]").forEach((item, k) => {
    item.setAttribute("aria-selected", String(k === i));
    if (k === i) item.scrollIntoView({ block: "nearest" });
  });
  if (i >= 0) byId("query").setAttribute("aria-activedescendant", "hit" + i); else byId("query").removeAttribute("aria-activedescendant");
}

function ask(text) {
  byId("query").value = text;
  byId("query").focus();
  search();
}

function close() {
  byId("found").hidden = true;
  byId("query").setAttribute("aria-expanded", "false");
}

function choose(i) {
  close();
  if (results[i]) { reveal(results[i]); canvas.focus(); }
}

// --- events -----------------------------------------------------------------------------------------------------------

function cellAt(event) {
  const box = canvas.getBoundingClientRect(), grid = gridOf(current, stage.w, stage.h);
  const c = Math.floor((event.clientX - box.left - grid.x) / grid.cw), r = Math.floor((event.clientY - box.top - grid.y) / grid.ch), i = r * grid.cols + c;
  return c >= 0 && c < grid.cols && r >= 0 && i < current.cells.length ? i : -1;
}

function hover(event) {
  const i = cellAt(event), tip = byId("tip");
  if (i !== hovered) { hovered = i; if (!moving) show(); }
  tip.hidden = i < 0 || !!moving;
  if (tip.hidden) return;
  tip.textContent = summary(cellBlock(current, i), current.cells[i]).join("\n");
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  tip.style.left = Math.max(4, Math.min(x + 14, box.width - tip.offsetWidth - 6)) + "px";
  tip.style.top = (y + tip.offsetHeight + 24 < box.height ? y + 18 : y - tip.offsetHeight - 10) + "px";
}

function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || !current) return;
  const grid = gridOf(current, stage.w, stage.h), steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.cols, ArrowDown: grid.cols };
  const n = current.cells.length;
  if (event.key in steps && n) pick(picked < 0 ? Math.max(0, current.cells.findIndex((c) => c.exact)) : Math.max(0, Math.min(n - 1, picked + steps[event.key])));
  else if (event.key === "Home" && n) pick(0);
  else if (event.key === "End" && n) pick(n - 1);
  else if (event.key === "Enter" || event.key === "+") enter(picked);
  else if (event.key === "Escape" || event.key === "Backspace" || event.key === "-") up();
  else return;
  event.preventDefault();
}

let turned = 0, rested = 0;
function onWheel(event) {
  event.preventDefault();
  const now = performance.now();
  if (now < rested) return;
  turned += event.deltaY;
  if (Math.abs(turned) < 60) return;
  rested = now + 450;
  if (turned < 0) enter(cellAt(event)); else up();
  turned = 0;
}

function listen() {
  canvas.addEventListener("mousemove", hover);
  canvas.addEventListener("mouseleave", () => { hovered = -1; byId("tip").hidden = true; if (!moving) show(); });
  canvas.addEventListener("click", (e) => {
    const i = cellAt(e);
    // A finger has no double click: the second tap goes in.
    if (e.pointerType === "touch" && i >= 0 && i === picked) enter(i); else pick(i);
  });
  canvas.addEventListener("dblclick", (e) => enter(cellAt(e)));
  canvas.addEventListener("keydown", onKey);
  canvas.addEventListener("wheel", onWheel, { passive: false });
  addEventListener("hashchange", arrive);
  let waiting = 0;
  addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(redraw); });
  byId("lang").onclick = () => { lang = say("otherLang"); go(current.block, picked >= 0 ? cellBlock(current, picked) : null); };
  const repaint = () => { readPalette(); redraw(); describe(); };
  byId("theme").onclick = () => { theme = { auto: "light", light: "dark", dark: "auto" }[theme]; repaint(); };
  darkness.addEventListener("change", repaint);
  byId("print").onclick = () => window.print();
  let kept = "auto";
  addEventListener("beforeprint", () => { kept = theme; theme = "light"; printing = true; repaint(); });
  addEventListener("afterprint", () => { theme = kept; printing = false; repaint(); });
  const query = byId("query");
  let typing = 0;
  query.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(search, data.n > 50000 ? 150 : 0); });
  query.addEventListener("focus", () => { if (query.value) search(); });
  query.addEventListener("blur", close);
  query.addEventListener("keydown", (e) => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") { if (results.length) mark((marked + (e.key === "ArrowDown" ? 1 : results.length - 1)) % results.length); }
    else if (e.key === "Enter") { clearTimeout(typing); if (byId("found").hidden || e.isComposing) search(); if (!e.isComposing) choose(marked); }
    else if (e.key === "Escape") { close(); canvas.focus(); }
    else return;
    e.preventDefault();
  });
  addEventListener("keydown", (e) => { if (e.key === "/" && e.target !== query) { e.preventDefault(); query.focus(); query.select(); } });
}

async function main() {
  if (!window.DecompressionStream || !window.BigUint64Array) { byId("wait").textContent = say("old"); return; }
  try {
    await unpack();
  } catch (error) {
    byId("wait").textContent = say("broken");
    throw error;
  }
  byId("wait").remove();
  readPalette();
  listen();
  arrive();
  document.documentElement.dataset.drawn = String(Math.round(performance.now()));
}
main();
