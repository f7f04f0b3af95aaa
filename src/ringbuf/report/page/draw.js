// The canvas. Whatever there is, a frame takes time by the pixels: of slices narrower than one, those are
// skipped that begin in a pixel that has been drawn, but for the last, which may go on beyond it.

const RULER = 26;
const FONT = "11px system-ui, 'Segoe UI', 'Noto Sans', sans-serif";
const LETTER = 6.1; // average width in pixels
let context, overviewContext;
let isDue = false;
let frames = 0; // drawn so far, for tests

function redraw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    drawNow();
  });
}

function fitCanvas(canvas) {
  const ratio = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width)), height = Math.max(1, Math.round(box.height));
  if (canvas.width !== width * ratio || canvas.height !== height * ratio) {
    canvas.width = width * ratio;
    canvas.height = height * ratio;
  }
  const found = canvas.getContext("2d");
  found.setTransform(ratio, 0, 0, ratio, 0, 0);
  return [found, width, height];
}

function drawNow() {
  const canvas = document.getElementById("canvas");
  [context, view.width, view.height] = fitCanvas(canvas);
  context.font = FONT;
  context.textBaseline = "middle";
  context.fillStyle = theme.page;
  context.fillRect(0, 0, view.width, view.height);
  const batch = newBatch();
  const seen = bands.filter((band) => band.y + band.h > view.top + RULER && band.y < view.top + view.height);
  for (const band of seen) drawBack(band);
  for (const band of seen) collectBand(band, batch);
  paint(batch);
  for (const band of seen) if (band.kind === "graph") drawGraph(band);
  drawLosses(seen);
  drawDeaths(seen);
  drawArrows();
  drawRange();
  drawRuler();
  drawOverview();
  if (labelsTop !== view.top || labelsOf !== bands || labelsHeight !== view.height) {
    showLabels();
    [labelsTop, labelsOf, labelsHeight] = [view.top, bands, view.height];
  }
  frames++;
}
let labelsTop = -1, labelsOf = null, labelsHeight = 0;

function drawBack(band) {
  const y = band.y - view.top;
  if (band.kind === "process") {
    context.fillStyle = theme.band;
    context.fillRect(0, y, view.width, band.h);
    if (closed.has(band.process.key)) drawActivity(band, y);
  }
  context.fillStyle = theme.line;
  context.globalAlpha = band.kind === "process" ? 1 : 0.5;
  context.fillRect(0, y, view.width, 1);
  context.globalAlpha = 1;
}

// Of a process whose threads are not shown: when they did something.
function drawActivity(band, y) {
  context.fillStyle = theme.accent;
  context.globalAlpha = 0.35;
  for (const entry of band.process.threads) {
    const x = xOf(entry.thread.first);
    context.fillRect(x, y + 8, Math.max(1, xOf(entry.thread.last) - x), 5);
  }
  context.globalAlpha = 1;
}

// ---- rectangles by colour: changing it for each is what takes time ----

function newBatch() {
  return { byFill: new Map(), texts: [], torn: [], marks: [] };
}

function addRect(batch, fill, x, y, width, height) {
  let list = batch.byFill.get(fill);
  if (!list) batch.byFill.set(fill, (list = []));
  list.push(x, y, width, height);
}

function paint(batch) {
  for (const [fill, list] of batch.byFill) {
    const [colour, alpha] = typeof fill === "string" ? [fill, 1] : [fill.colour, fill.alpha];
    context.fillStyle = colour;
    context.globalAlpha = alpha;
    for (let i = 0; i < list.length; i += 4) context.fillRect(list[i], list[i + 1], list[i + 2], list[i + 3]);
  }
  context.globalAlpha = 1;
  for (const one of batch.torn) drawTorn(...one);
  context.fillStyle = theme.bad;
  for (const [x, y, height] of batch.marks) context.fillRect(x, y, 2, height);
  context.fillStyle = inkOf;
  for (const [text, x, y] of batch.texts) context.fillText(text, x, y);
}

const shades = new Map();
function shade(colour, level) { // one object for each, so that a Map finds it
  const key = colour + level;
  if (!shades.has(key)) shades.set(key, { colour, alpha: [0.25, 0.4, 0.55, 0.7][level] });
  return shades.get(key);
}

const isDim = (name) => chosen.names !== null && !chosen.names.has(name);
const fillOfName = (name) => (isDim(name) ? shade(theme.soft, 0) : fills[name]);

function addText(batch, text, x, y, width) {
  const room = Math.floor((width - 6) / LETTER);
  if (room < 3) return;
  batch.texts.push([text.length <= room ? text : text.slice(0, room - 1) + "\u2026", x + 3, y]);
}

function collectBand(band, batch) {
  if (band.kind === "slices") {
    for (let row = 0; row < band.rows; row++) {
      const y = band.y + 3 + row * band.rowHeight - view.top;
      if (y + band.rowHeight < RULER || y > view.height) continue;
      if (band.track.cells[row]) collectCells(band.track.cells[row], y, band.rowHeight - 1, batch);
      if (band.track.rows[row]) collectRow(band.track.rows[row], y, band.rowHeight - 1, batch);
    }
    collectSpecials(band, batch);
  } else if (band.kind === "points") {
    collectPoints(band, batch);
  }
}

function collectRow([from, to], y, height, batch) {
  const { begin, end } = view, scale = scaleOf();
  let i = firstNotBelow(col.end, from, to, begin);
  let lastX = -1, lastFill = null; // of pixels that wait to be joined with the next
  let runX = 0;
  const flush = () => {
    if (lastFill !== null) addRect(batch, lastFill, runX, y, lastX - runX + 1, height);
    lastFill = null;
  };
  while (i < to) {
    const start = col.begin[i];
    if (start > end) break;
    const x = (start - begin) * scale, width = (col.end[i] - start) * scale;
    const fill = fillOfName(col.name[i]);
    if (width < 1) {
      const pixel = Math.floor(x);
      if (lastFill !== fill || pixel !== lastX + 1) {
        flush();
        runX = pixel;
        lastFill = fill;
      }
      lastX = pixel;
      const next = firstNotBelowNear(col.begin, i, to, begin + (pixel + 1) / scale);
      i = next - 1 > i && (col.end[next - 1] - begin) * scale > pixel + 1 ? next - 1 : Math.max(next, i + 1);
      continue;
    }
    flush();
    collectSlice(i, x, width, y, height, fill, batch);
    i++;
  }
  flush();
}

function collectSlice(i, x, width, y, height, fill, batch) {
  const left = Math.max(x, -2), right = Math.min(x + width, view.width + 2);
  addRect(batch, fill, left, y, Math.max(1, right - left - (width > 3 ? 0.6 : 0)), height);
  if (height >= 12 && right - left > 24) addText(batch, nameOf(i), Math.max(left, 0), y + height / 2 + 0.5, right - Math.max(left, 0));
  if (width > 5 && isUnended(i) && x + width <= view.width + 8) batch.torn.push([x + width, y, height, -1, Math.min(width, 26)]);
  if (width > 5 && isUnbegun(i) && x >= -8) batch.torn.push([x, y, height, 1, Math.min(width, 26)]);
}

// Those that must be seen however narrow they are: errors, and what has no end.
function collectSpecials(band, batch) {
  let lastX = -9, lastRow = -1;
  for (const i of band.track.specials) {
    if (col.begin[i] > view.end || col.end[i] < view.begin) continue;
    const row = col.row[i], x = Math.round(xOf(col.error[i] || isUnended(i) ? Math.min(col.end[i], view.end) : col.begin[i]));
    if (row === lastRow && Math.abs(x - lastX) < 2) continue;
    [lastX, lastRow] = [x, row];
    batch.marks.push([x - 1, band.y + 3 + row * band.rowHeight - view.top, col.error[i] ? band.rowHeight - 1 : Math.min(5, band.rowHeight)]);
  }
}

// An edge that is none: it goes on, and nobody knows how long.
function drawTorn(x, y, height, side, size) {
  const fade = context.createLinearGradient(x, 0, x + side * size, 0);
  fade.addColorStop(0, theme.bad);
  fade.addColorStop(1, "transparent");
  context.globalAlpha = 0.75;
  context.fillStyle = fade;
  context.fillRect(Math.min(x, x + side * size), y, size, height);
  context.globalAlpha = 1;
  context.fillStyle = theme.page;
  context.beginPath();
  for (let at = 0; at <= height; at += 4) {
    context.moveTo(x, y + at);
    context.lineTo(x + side * 3, y + Math.min(height, at + 2));
    context.lineTo(x, y + Math.min(height, at + 4));
  }
  context.fill();
}

// What was only counted: of each pixel how much of it is covered.
function collectCells([from, to], y, height, batch) {
  const scale = scaleOf(), width = head.width * scale;
  const first = Math.floor(view.begin / head.width), last = Math.ceil(view.end / head.width);
  let i = firstNotBelow(col.cellBin, from, to, first - 1);
  while (i < to && col.cellBin[i] <= last) {
    const x = Math.floor((col.cellBin[i] * head.width - view.begin) * scale);
    let covered = 0, best = i, until = i;
    do {
      covered += col.cellCovered[until];
      if (col.cellCovered[until] > col.cellCovered[best]) best = until;
      until++;
    } while (until < to && (col.cellBin[until] * head.width - view.begin) * scale < x + 1);
    const part = Math.min(1, (covered * scale) / Math.max(1, width));
    const name = pathName(col.cellPath[best]);
    const fill = isDim(name) ? shade(theme.soft, 0) : shade(fills[name], Math.min(3, Math.floor(part * 4)));
    if (width > 9) {
      for (let at = 0; at < width - 1; at += 3) addRect(batch, fill, x + at, y, 2, height); // not one slice: many
      if (height >= 12 && width > 70) addText(batch, `${countText(col.cellN[best])} \u00d7 ${head.names[name]}`, x, y + height / 2, width);
    } else {
      addRect(batch, fill, x, y, Math.max(1, width), height);
    }
    i = until;
  }
}

function collectPoints(band, batch) {
  const y = band.y + 3 - view.top, height = band.rowHeight - 3, scale = scaleOf();
  const many = band.track.pointCells;
  if (many) {
    const width = head.pointWidth * scale;
    let i = firstNotBelow(col.pointCellBin, many[0], many[1], Math.floor(view.begin / head.pointWidth) - 1);
    for (let lastX = -9; i < many[1]; i++) {
      const x = Math.floor((col.pointCellBin[i] * head.pointWidth - view.begin) * scale);
      if (x > view.width) break;
      if (x === lastX) continue;
      lastX = x;
      addRect(batch, shade(eventFills[col.pointCellEvent[i]], 2), x, y + 3, Math.max(1, width - 1), height - 5);
    }
  }
  if (!band.track.points) return;
  const [from, to] = band.track.points;
  let i = firstNotBelow(col.pointTime, from, to, timeAt(-4));
  while (i < to) {
    const x = xOf(col.pointTime[i]);
    if (x > view.width + 4) break;
    addRect(batch, eventFills[col.pointEvent[i]], Math.round(x) - 1, y, 3, height);
    const next = firstNotBelowNear(col.pointTime, i, to, timeAt(Math.floor(x) + 1));
    i = Math.max(next, i + 1);
    const room = (i < to ? xOf(col.pointTime[i]) : view.width) - x - 6;
    if (room > 34 && x > -4) addText(batch, pointText(i - 1), x + 1, y + height / 2, room);
  }
}

// ---- counters ----

function readGraphs() {
  parts(col.graphNumber, null, (number, _, from, to) => {
    const graph = head.graphs[number];
    Object.assign(graph, { from, to, low: Infinity, high: -Infinity });
    for (let i = from; i < to; i++) {
      graph.low = Math.min(graph.low, col.graphValue[i] * graph.scale);
      graph.high = Math.max(graph.high, col.graphValue[i] * graph.scale);
    }
    graph.low = Math.min(0, graph.low);
    if (graph.high <= graph.low) graph.high = graph.low + 1;
  });
}

function graphValueAt(graph, time) {
  const i = firstNotBelow(col.graphTime, graph.from, graph.to, time + 1) - 1;
  return i < graph.from ? null : col.graphValue[i] * graph.scale;
}

const numberText = (value) => (Math.abs(value) >= 1e4 ? countText(value) : String(Number(value.toPrecision(5))));

function drawGraph(band) {
  const graph = head.graphs[band.number], y = band.y - view.top + 3, height = band.h - 6;
  const yOf = (value) => y + height - ((value - graph.low) / (graph.high - graph.low)) * height;
  let i = Math.max(graph.from, firstNotBelow(col.graphTime, graph.from, graph.to, view.begin) - 1);
  if (graph.from === undefined) return;
  context.beginPath();
  context.moveTo(xOf(col.graphTime[i]), yOf(Math.max(0, graph.low)));
  let last = null, x = 0;
  for (; i < graph.to; i++) {
    x = xOf(col.graphTime[i]);
    const value = yOf(col.graphValue[i] * graph.scale);
    if (last !== null) context.lineTo(x, last);
    context.lineTo(x, value);
    last = value;
    if (x > view.width) break;
  }
  const right = Math.min(view.width, Math.max(x, xOf(head.length)));
  context.lineTo(right, last);
  context.lineTo(right, yOf(Math.max(0, graph.low)));
  context.fillStyle = context.strokeStyle = theme.accent;
  context.globalAlpha = 0.3;
  context.fill();
  context.globalAlpha = 1;
  context.stroke();
  context.fillStyle = theme.soft;
  context.fillText(numberText(graph.high), 4, y + 6);
}

// ---- what is missing ----

function hatch(x, y, width, height) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = theme.bad;
  context.lineWidth = 2;
  context.beginPath();
  for (let at = Math.floor(x / 6) * 6 - height; at < x + width; at += 6) {
    context.moveTo(at, y + height);
    context.lineTo(at + height, y);
  }
  context.stroke();
  context.restore();
}

function missingPlaces() {
  const places = head.lost.places.map(([begin, end, cpu, events, packets]) => ({ begin, end, cpu, events, packets }));
  for (const one of head.damage) if (one.begin !== null) places.push({ begin: one.begin, end: one.end === null ? head.length : one.end, damage: one.text });
  return places;
}

function missingText(place) {
  if (place.damage) return `damaged: ${place.damage}`;
  const what = [place.events && plural(place.events, "record") + " lost", place.packets && plural(place.packets, "packet") + " missing"];
  return what.filter(Boolean).join(", ") + (place.cpu === null ? "" : ` on CPU ${place.cpu}`);
}

function drawLosses(seen) {
  const band = seen.find((one) => one.kind === "lost");
  let drawn = -Infinity; // as far as that
  for (const place of missingPlaces()) {
    const x = xOf(Math.max(0, place.begin)), width = Math.max(3, xOf(place.end) - x);
    if (x > view.width || x + width < 0 || x + width <= drawn + 1) continue;
    drawn = Math.max(drawn, x + width);
    const left = Math.max(x, -4), size = Math.min(x + width, view.width + 4) - left;
    context.fillStyle = theme.bad;
    context.globalAlpha = 0.06;
    context.fillRect(left, RULER, size, view.height);
    context.globalAlpha = 1;
    if (!band) continue;
    hatch(left, band.y - view.top + 3, size, band.h - 6);
    if (size > 90) {
      const text = missingText(place), room = Math.min(size - 8, text.length * LETTER + 8);
      context.fillStyle = theme.page;
      context.fillRect(left + 4, band.y - view.top + 3, room, band.h - 6);
      context.fillStyle = theme.bad;
      context.fillText(text.slice(0, Math.floor(room / LETTER)), left + 7, band.y - view.top + band.h / 2);
    }
  }
}

function drawDeaths(seen) {
  for (const band of seen) {
    if (!band.process || !band.process.deaths.length) continue;
    const last = Math.max(...band.process.deaths.map((one) => (one.last === null ? band.process.last : one.last)));
    const x = Math.round(xOf(last)), y = band.y - view.top;
    if (x < -20 || x > view.width + 20) continue;
    context.fillStyle = isDeath(band.process) ? theme.bad : theme.soft;
    context.fillRect(x, y, 2, band.h);
    if (band.kind === "process") {
      context.font = "bold 13px system-ui, sans-serif";
      context.fillText("\u2715", x - 5, y + band.h / 2);
      context.font = FONT;
      const label = `${isDeath(band.process) ? "died" : "ended"} ${sinceText(last)}`, room = label.length * LETTER;
      context.fillText(label, x + room + 14 > view.width ? x - room - 10 : x + 10, y + band.h / 2);
    }
  }
}

// ---- what is chosen ----

function placeOf(slice) {
  const band = bandOfTrack(col.track[slice]);
  if (!band) return null;
  return { x: xOf(col.begin[slice]), end: xOf(col.end[slice]), y: band.y + 3 + col.row[slice] * band.rowHeight - view.top, height: band.rowHeight - 1 };
}

function drawArrows() {
  if (chosen.point >= 0) {
    const band = bandOfTrack(col.pointTrack[chosen.point]);
    if (band) outline(xOf(col.pointTime[chosen.point]) - 3, band.y - view.top + 1, 7, band.h - 4);
  }
  if (chosen.slice < 0) {
    if (head.links.length <= 400) for (const [from, to] of head.links) arrow(placeOf(from), placeOf(to), true);
    return;
  }
  const own = placeOf(chosen.slice);
  if (!own) return;
  outline(own.x, own.y, Math.max(3, own.end - own.x), own.height);
  const parent = col.parent[chosen.slice];
  if (parent >= 0) arrow(placeOf(parent), own, col.track[parent] !== col.track[chosen.slice]);
  let n = 0;
  for (const child of childrenOf(chosen.slice)) {
    if (col.track[child] !== col.track[chosen.slice] && n++ < 200) arrow(own, placeOf(child), true);
  }
  for (const [from, to] of linksOf(chosen.slice)) arrow(placeOf(from), placeOf(to), true);
}

function linksOf(slice) {
  return head.links.filter((link) => link.includes(slice));
}

function outline(x, y, width, height) {
  context.strokeStyle = theme.text;
  context.lineWidth = 2;
  context.strokeRect(Math.max(x, -3), y, Math.min(x + width, view.width + 3) - Math.max(x, -3), height);
  context.lineWidth = 1;
}

function arrow(from, to, isFlow) {
  if (!from || !to || !isFlow) return;
  const startX = Math.min(Math.max(to.x, from.x), from.end), startY = from.y + from.height, endY = to.y + to.height / 2;
  context.strokeStyle = context.fillStyle = theme.accent;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(startX, startY);
  context.bezierCurveTo(startX - 30, startY + (endY - startY) / 3, to.x - 40, endY, to.x - 2, endY);
  context.stroke();
  context.beginPath();
  context.moveTo(to.x, endY);
  context.lineTo(to.x - 7, endY - 4);
  context.lineTo(to.x - 7, endY + 4);
  context.fill();
  context.lineWidth = 1;
}

function drawRange() {
  if (!chosen.range) return;
  const [begin, end] = chosen.range.map(xOf);
  context.fillStyle = theme.over;
  context.fillRect(begin, 0, end - begin, view.height);
  context.fillStyle = theme.accent;
  context.fillRect(begin, 0, 1, view.height);
  context.fillRect(end, 0, 1, view.height);
}

// ---- ruler and overview ----

function drawRuler() {
  context.fillStyle = theme.panel;
  context.fillRect(0, 0, view.width, RULER);
  const step = niceStep((view.end - view.begin) / (view.width / 110));
  context.fillStyle = theme.soft;
  for (let n = Math.ceil(view.begin / step); n * step <= view.end; n++) {
    const time = n * step, x = Math.round(xOf(time));
    context.fillRect(x, RULER - 6, 1, 6);
    context.fillText(rulerText(time, step), x + 4, RULER / 2);
  }
  context.fillStyle = theme.line;
  context.fillRect(0, RULER - 1, view.width, 1);
  if (chosen.range) {
    const [begin, end] = chosen.range.map(xOf), text = durationText(chosen.range[1] - chosen.range[0]);
    context.fillStyle = theme.accent;
    context.fillRect(begin, 0, end - begin, 3);
    if (end - begin > text.length * LETTER + 10) context.fillText(text, (begin + end - text.length * LETTER) / 2, RULER / 2);
  }
}

let density = null; // of the whole: how much is open at a time, in 400 parts

function readDensity() {
  density = new Float64Array(400);
  const part = Math.max(1, head.length) / density.length;
  const add = (begin, end, weight) => {
    const first = Math.max(0, Math.floor(begin / part)), last = Math.min(density.length - 1, Math.floor(end / part));
    for (let i = first; i <= last; i++) density[i] += weight * Math.max(1, Math.min(end, (i + 1) * part) - Math.max(begin, i * part));
  };
  for (let i = 0; i < col.begin.length; i++) if (col.self[i] > 0 && !isOfCpu(col.name[i])) add(col.begin[i], col.end[i], Math.min(1, col.self[i] / Math.max(1, col.duration[i])));
  for (let i = 0; i < col.cellBin.length; i++) if (!isOfCpu(pathName(col.cellPath[i]))) add(col.cellBin[i] * head.width, (col.cellBin[i] + 1) * head.width, col.cellSelf[i] / head.width);
  if (!col.begin.length) {
    for (const time of col.pointTime) density[Math.min(399, Math.max(0, Math.floor(time / part)))]++;
    for (let i = 0; i < col.pointCellBin.length; i++) density[Math.min(399, Math.floor((col.pointCellBin[i] * head.pointWidth) / part))] += col.pointCellN[i];
  }
}

function drawOverview() {
  const canvas = document.getElementById("overview");
  const [paper, width, height] = fitCanvas(canvas);
  paper.fillStyle = theme.page;
  paper.fillRect(0, 0, width, height);
  const most = Math.max(...density) || 1, x = (time) => (time / Math.max(1, head.length)) * width;
  paper.fillStyle = theme.accent;
  paper.globalAlpha = 0.45;
  const step = width / density.length;
  for (let i = 0; i < density.length; i++) {
    const size = Math.sqrt(density[i] / most) * (height - 10);
    paper.fillRect(i * step, height - size - 1, step + 0.5, size);
  }
  paper.globalAlpha = 1;
  paper.fillStyle = theme.bad;
  for (const place of missingPlaces()) paper.fillRect(x(place.begin), 0, Math.max(2, x(place.end) - x(place.begin)), 5);
  for (const death of head.deaths) if (death.last !== null && death.isDeath) paper.fillRect(x(death.last), 0, 2, height);
  const left = Math.max(0, x(view.begin)), right = Math.min(width, x(view.end));
  paper.fillStyle = theme.over;
  paper.fillRect(left, 0, Math.max(2, right - left), height);
  paper.strokeStyle = theme.accent;
  paper.strokeRect(left + 0.5, 0.5, Math.max(2, right - left - 1), height - 1);
}
