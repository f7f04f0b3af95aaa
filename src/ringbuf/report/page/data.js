// What Python packed (columns.py), as arrays. `head` explains the numbers, `col` has the columns.

let head, col;

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function loadData() {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser cannot decompress: a newer one is needed");
  const element = document.getElementById("data");
  const packed = bytesOf(element.textContent.trim());
  element.remove();
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = new DataView(bytes.buffer).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  head = about.head;
  col = {};
  for (const one of about.columns) col[one.name] = column(one, bytes.subarray(4 + size + one.at));
  col.end = Float64Array.from(col.begin, (begin, i) => begin + col.duration[i]);
}

// Planes of bytes, lowest first; numbers up to 2^53 are exact.
function column(about, bytes) {
  const n = about.n;
  const values = about.bytes < 4 && !about.delta ? new Int32Array(n) : new Float64Array(n);
  for (let plane = about.bytes - 1; plane >= 0; plane--) {
    const from = plane * n;
    for (let i = 0; i < n; i++) values[i] = values[i] * 256 + bytes[from + i];
  }
  if (about.signed) for (let i = 0; i < n; i++) values[i] = values[i] % 2 ? -(values[i] + 1) / 2 : values[i] / 2;
  if (about.delta) for (let i = 1; i < n; i++) values[i] += values[i - 1];
  return values;
}

// ---- places in sorted parts of columns ----

// The first of [from, to) that is not below `value`; `to` if all are.
function firstNotBelow(values, from, to, value) {
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (values[middle] < value) from = middle + 1;
    else to = middle;
  }
  return from;
}

// The same, of one that is near: by steps that double.
function firstNotBelowNear(values, from, to, value) {
  let step = 1;
  while (from + step < to && values[from + step] < value) step *= 2;
  return firstNotBelow(values, from, Math.min(to, from + step + 1), value);
}

// ---- what numbers stand for ----

const nameOf = (slice) => head.names[col.name[slice]];
const threadOf = (slice) => head.threads[col.thread[slice]];
const pathName = (path) => col.pathName[path];
const isCall = (name) => ["call", "syscall"].includes(head.kinds[name]);
const isOfCpu = (name) => ["run", "irq"].includes(head.kinds[name]); // nobody's time but the CPU's
const KIND_WORDS = { span: "span", call: "call of a function", syscall: "system call", run: "thread that the CPU ran", irq: "interrupt of the CPU" };
const fieldsOf = (slice) => head.details.slices[slice] || {};
const missingBegin = (slice) => head.missing[col.beginMissing[slice]];
const missingEnd = (slice) => head.missing[col.endMissing[slice]];
const isUnended = (slice) => ["lost", "open", "died"].includes(missingEnd(slice));
const isUnbegun = (slice) => ["lost", "before"].includes(missingBegin(slice));
const isSpecial = (slice) => col.error[slice] !== 0 || isUnended(slice) || isUnbegun(slice);

function childrenOf(slice) {
  const found = [];
  for (let i = 0; i < col.parent.length; i++) if (col.parent[i] === slice) found.push(i);
  return found;
}

// What a record that is neither begin nor end says in one line: its message, or its name with what tells most.
function pointText(point) {
  const event = head.events[col.pointEvent[point]], fields = head.details.points[point];
  if (!fields) return event;
  if (typeof fields.message === "string") return fields.message;
  const said = [fields.next_comm, fields.comm, ...Object.values(fields)].find((one) => typeof one === "string" && one);
  return said === undefined ? event : `${event} ${said}`;
}
