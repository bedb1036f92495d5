// What the page holds, taken out of its two script elements.

const VIEWS = {
  u1: Uint8Array,
  i1: Int8Array,
  i2: Int16Array,
  u4: Uint32Array,
  i4: Int32Array,
  f4: Float32Array,
  f8: Float64Array,
};

// The arrays by name, as { values, shape }. `facts.arrays` says how they lie in `text`, which is base64.
export async function unpacked(facts, text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  let at = 0;
  const waiting = facts.arrays.map(async ({ name, kind, shape, bytes: length }) => {
    const packed = bytes.subarray(at, (at += length));
    return [name, { values: reassembled(await inflated(packed), VIEWS[kind]), shape }];
  });
  return Object.fromEntries(await Promise.all(waiting));
}

async function inflated(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Numbers of several bytes were taken apart, all lowest bytes first; and lie lowest byte first in memory.
function reassembled(planes, View) {
  const width = View.BYTES_PER_ELEMENT;
  const count = planes.length / width;
  const whole = new Uint8Array(planes.length);
  for (let plane = 0; plane < width; plane++) {
    for (let k = 0; k < count; k++) whole[k * width + plane] = planes[plane * count + k];
  }
  return new View(whole.buffer);
}
