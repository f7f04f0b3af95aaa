// What is seen: from `begin` to `end` nanoseconds after the trace's begin, scrolled down by `top` pixels.

const view = { begin: 0, end: 1, top: 0, width: 1, height: 1 };
const chosen = { slice: -1, point: -1, range: null, names: null };

const scaleOf = () => view.width / (view.end - view.begin);
const xOf = (time) => (time - view.begin) * scaleOf();
const timeAt = (x) => view.begin + x / scaleOf();

function look(begin, end) {
  const whole = Math.max(1, head.length);
  const least = 20; // nanoseconds
  let size = Math.min(Math.max(end - begin, least), whole * 1.1);
  const middle = (begin + end) / 2;
  const edge = whole * 0.05 + size * 0.4;
  begin = Math.min(Math.max(middle - size / 2, -edge), whole + edge - size);
  view.begin = begin;
  view.end = begin + size;
  redraw();
}

const lookAtAll = () => look(-head.length * 0.01, head.length * 1.01 + 1);

function zoom(factor, x = view.width / 2) {
  const at = timeAt(x);
  look(at - (at - view.begin) * factor, at + (view.end - at) * factor);
}

function pan(pixels) {
  const time = pixels / scaleOf();
  look(view.begin + time, view.end + time);
}

function scroll(pixels) {
  view.top = Math.max(0, Math.min(view.top + pixels, Math.max(0, bandsHeight() - view.height + 12)));
  redraw();
}

// Some time with some of what is around it, unless it is well seen.
function reveal(begin, end) {
  const size = Math.max(end - begin, 1);
  const seen = begin >= view.begin && end <= view.end && (size * scaleOf() > 30);
  if (!seen) look(begin - size * 1.5, end + size * 1.5);
}

function fit(begin, end) {
  const size = Math.max(end - begin, 20);
  look(begin - size * 0.08, end + size * 0.08);
}
