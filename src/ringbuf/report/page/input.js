// Pointer, wheel and keys.

// What is at a place of the canvas: { slice }, { cell }, { point }, { graph }, { lost } or { death }.
function hit(x, y) {
  const band = bandAt(y + view.top);
  if (!band || y < RULER) return null;
  const time = timeAt(x), slack = 3 / scaleOf();
  if (band.kind === "lost") {
    const place = missingPlaces().find((one) => time >= one.begin - slack && time <= one.end + slack);
    return place ? { lost: place } : null;
  }
  if (band.kind === "process") {
    const death = band.process.deaths.find((one) => one.last !== null && Math.abs(xOf(one.last) - x) < 8);
    return death ? { death, band } : { process: band.process };
  }
  if (band.kind === "graph") return { graph: head.graphs[band.number], time };
  if (band.kind === "points") return hitPoint(band, time, 5 / scaleOf());
  const row = Math.floor((y + view.top - band.y - 3) / band.rowHeight);
  return hitSlice(band.track, row, time, slack);
}

function hitSlice(track, row, time, slack) {
  const part = track.rows[row];
  if (part) {
    const [from, to] = part, i = firstNotBelow(col.end, from, to, time);
    const near = [i - 1, i].filter((one) => one >= from && one < to && col.begin[one] - slack <= time && col.end[one] + slack >= time);
    const within = near.find((one) => col.begin[one] <= time && col.end[one] >= time);
    if (near.length) return { slice: within === undefined ? near[0] : within };
  }
  const cells = track.cells[row];
  if (!cells) return null;
  const bin = Math.floor(time / head.width), i = firstNotBelow(col.cellBin, cells[0], cells[1], bin);
  return i < cells[1] && col.cellBin[i] === bin ? { cell: i } : null;
}

function hitPoint(band, time, slack) {
  if (band.track.points) {
    const [from, to] = band.track.points, i = firstNotBelow(col.pointTime, from, to, time);
    const near = [i - 1, i].filter((one) => one >= from && one < to && Math.abs(col.pointTime[one] - time) <= slack);
    near.sort((a, b) => Math.abs(col.pointTime[a] - time) - Math.abs(col.pointTime[b] - time));
    if (near.length) return { point: near[0] };
  }
  const cells = band.track.pointCells;
  if (!cells) return null;
  const bin = Math.floor(time / head.pointWidth), i = firstNotBelow(col.pointCellBin, cells[0], cells[1], bin);
  return i < cells[1] && col.pointCellBin[i] === bin ? { pointCell: i } : null;
}

function tipLines(found) {
  if (found.slice !== undefined) {
    const slice = found.slice, fields = Object.entries(fieldsOf(slice)).slice(0, 6).map(([name, value]) => `${name}=${value}`).join("  ");
    const end = isUnended(slice) ? `end ${endWords(slice)}` : "";
    const size = missingEnd(slice) === "lost" || missingBegin(slice) === "lost" ? "duration unknown" : durationText(col.duration[slice]) + (isUnended(slice) ? " or more" : "");
    return [nameOf(slice), `${size}, by itself ${durationText(col.self[slice])}`, fields, head.details.errors[slice] || head.texts[col.error[slice]], end, threadOf(slice).text];
  }
  if (found.cell !== undefined) {
    const cell = found.cell;
    return [`${plural(col.cellN[cell], "short slice")}, mostly ${head.names[pathName(col.cellPath[cell])]}`, `${durationText(col.cellCovered[cell])} in ${durationText(head.width)}; counted, not kept one by one`];
  }
  if (found.point !== undefined) {
    const fields = Object.entries(head.details.points[found.point] || {}).slice(0, 8).map(([name, value]) => `${name}=${value}`).join("  ");
    return [pointText(found.point), fields, sinceText(col.pointTime[found.point])];
  }
  if (found.pointCell !== undefined) {
    return [`${plural(col.pointCellN[found.pointCell], "event")}, mostly ${head.events[col.pointCellEvent[found.pointCell]]}`, `in ${durationText(head.pointWidth)}`];
  }
  if (found.lost) return [missingText(found.lost), `from ${sinceText(found.lost.begin)} to ${sinceText(found.lost.end)}`];
  if (found.death) return [`process ${found.death.pid} ${found.death.isDeath ? "died" : "ended, with nothing open"}`, `its thread ${found.death.thread} ${found.death.tid} last recorded at ${sinceText(found.death.heard)}`, found.death.open ? `${plural(found.death.open, "record")} it was writing ${found.death.open > 1 ? "are" : "is"} lost` : ""];
  if (found.graph) {
    const value = graphValueAt(found.graph, found.time);
    return [found.graph.name, value === null ? "no value yet" : `${numberText(value)} ${found.graph.unit}`, sinceText(found.time)];
  }
  return null;
}

function showTip(x, y) {
  const tip = document.getElementById("tip"), found = hit(x, y), lines = found && tipLines(found);
  document.getElementById("canvas").style.cursor = found && (found.slice !== undefined || found.point !== undefined) ? "pointer" : "default";
  tip.hidden = !lines;
  if (!lines) return;
  const [title, ...more] = lines;
  tip.replaceChildren(node("strong", title), ...more.filter(Boolean).map((text) => node("div", text, "soft")));
  const box = document.getElementById("canvas"), left = box.offsetLeft + x + 14, top = box.offsetTop + y + 16;
  const room = document.getElementById("timeline");
  tip.style.left = `${Math.max(0, Math.min(left, room.clientWidth - tip.offsetWidth - 6))}px`;
  tip.style.top = `${top + tip.offsetHeight > room.clientHeight ? Math.max(0, top - tip.offsetHeight - 28) : top}px`;
}

function click(x, y) {
  const found = hit(x, y);
  if (!found) return chooseNothing();
  if (found.slice !== undefined) choose(found.slice, { move: false });
  else if (found.point !== undefined) choosePoint(found.point, { move: false });
  else if (found.lost) chooseRange(Math.max(0, found.lost.begin), found.lost.end);
  else if (found.cell !== undefined) zoom(0.25, x);
  else chooseNothing();
}

function startPointer() {
  const canvas = document.getElementById("canvas");
  let drag = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const [x, y] = place(event);
    drag = { x, y, startX: x, startY: y, isRange: event.shiftKey || y < RULER, time: timeAt(x), isMoved: false };
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (!drag) return showTip(x, y);
    drag.isMoved = drag.isMoved || Math.hypot(x - drag.startX, y - drag.startY) > 3;
    if (!drag.isMoved) return;
    document.getElementById("tip").hidden = true;
    if (drag.isRange) {
      const time = timeAt(x);
      chooseRange(Math.min(time, drag.time), Math.max(time, drag.time), { isFinal: false });
    } else {
      pan(drag.x - x);
      scroll(drag.y - y);
    }
    [drag.x, drag.y] = [x, y];
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const [x, y] = place(event), was = drag;
    drag = null;
    if (!was.isMoved) click(x, y);
    else if (was.isRange && chosen.range) chooseRange(...chosen.range);
  });
  canvas.addEventListener("pointercancel", () => (drag = null));
  canvas.addEventListener("pointerleave", () => (document.getElementById("tip").hidden = true));
  canvas.addEventListener("dblclick", (event) => {
    const found = hit(...place(event));
    if (found && found.slice !== undefined) fit(col.begin[found.slice], col.end[found.slice]);
  });
  canvas.addEventListener("wheel", (event) => {
    const [x, y] = place(event), unit = event.deltaMode === 1 ? 16 : 1;
    if (event.ctrlKey || event.metaKey || y < RULER) zoom(Math.exp(Math.max(-150, Math.min(150, event.deltaY * unit)) / 250), x);
    else if (event.shiftKey) pan((event.deltaX || event.deltaY) * unit);
    else {
      if (event.deltaX) pan(event.deltaX * unit);
      if (event.deltaY) scroll(event.deltaY * unit);
    }
    document.getElementById("tip").hidden = true;
    event.preventDefault();
  }, { passive: false });
  document.getElementById("gutter").addEventListener("wheel", (event) => scroll(event.deltaY), { passive: true });
  startOverview();
}

function startOverview() {
  const overview = document.getElementById("overview");
  const goTo = (event) => {
    const box = overview.getBoundingClientRect(), time = ((event.clientX - box.left) / box.width) * head.length, size = view.end - view.begin;
    look(time - size / 2, time + size / 2);
  };
  let isDown = false;
  overview.addEventListener("pointerdown", (event) => {
    isDown = true;
    overview.setPointerCapture(event.pointerId);
    goTo(event);
  });
  overview.addEventListener("pointermove", (event) => isDown && goTo(event));
  overview.addEventListener("pointerup", () => (isDown = false));
  overview.addEventListener("wheel", (event) => {
    zoom(Math.exp(event.deltaY / 250));
    event.preventDefault();
  }, { passive: false });
}

// ---- keys ----

function neighbour(step) {
  if (chosen.slice < 0) return firstSeen();
  const next = chosen.slice + step;
  const same = next >= 0 && next < col.track.length && col.track[next] === col.track[chosen.slice] && col.row[next] === col.row[chosen.slice];
  return same ? next : chosen.slice;
}

function firstSeen() {
  for (const band of bands) {
    if (band.kind !== "slices" || band.y + band.h < view.top) continue;
    for (const part of band.track.rows) {
      if (!part) continue;
      const i = firstNotBelow(col.end, part[0], part[1], view.begin);
      if (i < part[1] && col.begin[i] <= view.end) return i;
    }
  }
  return col.begin.length ? 0 : -1;
}

const KEYS = {
  "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1.6), ArrowLeft: () => pan(-view.width / 8), ArrowRight: () => pan(view.width / 8),
  ArrowUp: () => scroll(-60), ArrowDown: () => scroll(60), PageUp: () => scroll(-view.height), PageDown: () => scroll(view.height),
  Home: () => look(0, view.end - view.begin), End: () => look(head.length - (view.end - view.begin), head.length), 0: lookAtAll,
  n: () => choose(neighbour(1)), p: () => choose(neighbour(-1)),
  o: () => chosen.slice >= 0 && col.parent[chosen.slice] >= 0 && choose(col.parent[chosen.slice]),
  i: () => {
    const children = chosen.slice < 0 ? [] : childrenOf(chosen.slice).sort((a, b) => col.begin[a] - col.begin[b]);
    if (children.length) choose(children[0]);
  },
  f: () => (chosen.slice >= 0 ? fit(col.begin[chosen.slice], col.end[chosen.slice]) : chosen.range && fit(...chosen.range)),
  s: () => chosen.slice >= 0 && chooseRange(col.begin[chosen.slice], col.end[chosen.slice]),
  Escape: chooseNothing,
};

function startKeys() {
  document.getElementById("canvas").addEventListener("keydown", (event) => {
    const action = KEYS[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    action();
    event.preventDefault();
  });
  addEventListener("keydown", (event) => {
    const isTyping = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") document.getElementById("search").focus();
    else if (event.key === "?") document.getElementById("helpBox").showModal();
    else return;
    event.preventDefault();
  });
  const press = (id, action) => document.getElementById(id).addEventListener("click", action);
  press("whole", lookAtAll);
  press("zoomIn", () => zoom(0.5));
  press("zoomOut", () => zoom(2));
  press("help", () => document.getElementById("helpBox").showModal());
  startDivider();
}

function startDivider() {
  const divider = document.getElementById("divider"), panel = document.getElementById("panel");
  const resize = (height) => {
    panel.style.height = `${Math.max(90, Math.min(height, innerHeight - 260))}px`;
    redraw();
  };
  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => {
    if (divider.hasPointerCapture(event.pointerId)) resize(innerHeight - event.clientY - 4);
  });
  divider.addEventListener("keydown", (event) => {
    const step = { ArrowUp: 30, ArrowDown: -30 }[event.key];
    if (!step) return;
    resize(panel.clientHeight + step);
    event.preventDefault();
  });
}
