// Numbers as people read them; units.py has the same.

function durationText(ns) {
  const size = Math.abs(ns);
  for (const [unit, name] of [[1e9, "s"], [1e6, "ms"], [1e3, "\u00b5s"]]) {
    if (size >= unit) {
      const number = size / unit;
      return (ns / unit).toFixed(number < 9.995 ? 2 : number < 99.95 ? 1 : 0) + " " + name;
    }
  }
  return Math.round(ns) + " ns";
}

function countText(number) {
  if (number < 9999.5) return String(Math.round(number));
  for (const [unit, name] of [[1e3, "k"], [1e6, "M"], [1e9, "G"]]) {
    if (number < 999.95 * unit) return (number / unit).toFixed(1) + name;
  }
  return (number / 1e12).toFixed(1) + "T";
}

const sinceText = (ns) => "+" + durationText(Math.max(0, ns));

// A time of the ruler, to what its steps tell apart.
function rulerText(ns, step) {
  const [unit, name] = [[1e9, "s"], [1e6, "ms"], [1e3, "\u00b5s"], [1, "ns"]].find(([one]) => Math.abs(ns) >= one) || [1, "ns"];
  const digits = Math.max(0, Math.min(9, Math.ceil(-Math.log10(step / unit) - 1e-9)));
  return `${ns < 0 ? "-" : "+"}${(Math.abs(ns) / unit).toFixed(digits)} ${name}`;
}

// The time of day, to the nanosecond: the sum of a large number and a small one.
function momentText(ns) {
  const moment = BigInt(head.begin) + BigInt(Math.round(ns));
  const date = new Date(Number(moment / 1000000n));
  const two = (number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const fraction = String(((moment % 1000000000n) + 1000000000n) % 1000000000n).padStart(9, "0");
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${fraction}`;
}

// A step of 1, 2 or 5 of a power of ten, of which `room` pixels have one.
function niceStep(ns) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, ns)));
  return [1, 2, 5, 10].find((one) => one * power >= ns) * power;
}

const plural = (n, one, many = one + "s") => `${countText(n)} ${n === 1 ? one : many}`;
