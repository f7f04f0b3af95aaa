// What is chosen, and what a range of time has: counts, times, and self times by path.

function announce(text) {
  document.getElementById("live").textContent = text;
}

function choose(slice, { move = true } = {}) {
  chosen.slice = slice;
  chosen.point = -1;
  if (slice >= 0) {
    if (move) {
      reveal(col.begin[slice], col.end[slice]);
      revealRow(col.track[slice], col.row[slice]);
    }
    showTab("details");
    announce(`${nameOf(slice)}, ${durationText(col.duration[slice])}, ${sinceText(col.begin[slice])}, ${threadOf(slice).text}`);
  }
  showDetails();
  redraw();
}

function choosePoint(point, { move = true } = {}) {
  chosen.slice = -1;
  chosen.point = point;
  if (move && point >= 0) {
    const time = col.pointTime[point];
    if (time < view.begin || time > view.end) look(time - (view.end - view.begin) / 2, time + (view.end - view.begin) / 2);
    revealRow(col.pointTrack[point], 0);
  }
  showTab("details");
  announce(`${pointText(point)}, ${sinceText(col.pointTime[point])}`);
  showDetails();
  redraw();
}

let rangeTimer = 0;

function chooseRange(begin, end, { isFinal = true } = {}) {
  chosen.range = end > begin ? [begin, end] : null;
  redraw();
  clearTimeout(rangeTimer);
  if (isFinal) rangeTimer = setTimeout(showRange, 30);
}

function showRange() {
  const range = chosen.range;
  document.getElementById("clear").hidden = !range;
  document.getElementById("scope").textContent = range
    ? `of ${durationText(range[1] - range[0])} from ${sinceText(range[0])}`
    : "of the whole trace";
  measured = null;
  if (range && !["summary", "flame"].includes(shownTab)) showTab("summary");
  else refreshTab();
}

function chooseNothing() {
  Object.assign(chosen, { slice: -1, point: -1, names: null });
  chooseRange(0, 0);
  showDetails();
}

// ---- measuring a range ----

let measured = null; // of chosen.range

// Times are as far as they lie in the range. What is only counted is taken by its cells: `isRough`.
function measure() {
  if (measured) return measured;
  const [begin, end] = chosen.range, inside = new Float64Array(col.begin.length), own = new Float64Array(col.begin.length);
  const rows = new Map(), paths = new Map();
  const rowOf = (name) => rows.get(name) || (rows.set(name, { name, count: 0, total: 0, self: 0, durations: [] }), rows.get(name));
  for (let i = 0; i < inside.length; i++) {
    const size = Math.min(col.end[i], end) - Math.max(col.begin[i], begin);
    if (size < 0 || col.begin[i] > end || col.end[i] < begin) continue;
    inside[i] = size;
    // Its own share, as if what is in itself were spread evenly where nothing within it is kept.
    own[i] += size;
    const parent = col.parent[i];
    if (parent >= 0 && col.track[parent] === col.track[i]) own[parent] -= size;
  }
  for (let i = 0; i < inside.length; i++) {
    if (!inside[i] && !(col.begin[i] >= begin && col.begin[i] <= end && col.duration[i] === 0)) continue;
    const row = rowOf(col.name[i]), self = Math.min(Math.max(0, own[i]), col.self[i]);
    row.count++;
    row.total += inside[i];
    row.self += self;
    row.durations.push(col.duration[i]);
    if (!isOfCpu(col.name[i])) paths.set(col.path[i], (paths.get(col.path[i]) || 0) + self);
  }
  let rough = 0;
  for (let i = 0; i < col.cellBin.length; i++) {
    const at = col.cellBin[i] * head.width, part = (Math.min(at + head.width, end) - Math.max(at, begin)) / head.width;
    if (part <= 0) continue;
    const row = rowOf(pathName(col.cellPath[i])), count = col.cellN[i] * part;
    row.count += count;
    row.total += col.cellCovered[i] * part;
    row.self += col.cellSelf[i] * part;
    rough += count;
    if (!isOfCpu(pathName(col.cellPath[i]))) paths.set(col.cellPath[i], (paths.get(col.cellPath[i]) || 0) + col.cellSelf[i] * part);
  }
  measured = { rows: [...rows.values()], paths, rough };
  return measured;
}
