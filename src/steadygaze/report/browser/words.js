// Numbers and names in the words of the rest of the report.

const UNKNOWN = "not known";
const NOTHING = 1e-14; // what rounding leaves of 0

// At most so many significant digits, as the report writes them.
export function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return UNKNOWN;
  const short = Math.abs(value) < NOTHING ? 0 : Number(value.toPrecision(digits));
  const size = Math.abs(short);
  if (short !== 0 && (size < 1e-4 || size >= 10 ** Math.max(digits, 6))) {
    return short.toExponential().replace("e+", "e");
  }
  return String(short === 0 ? 0 : short);
}

// With as many digits as it takes to tell it from the threshold.
export function apart(value, threshold) {
  for (let digits = 4; digits < 13; digits++) {
    if (number(value, digits) !== number(threshold, digits)) return number(value, digits);
  }
  return number(value, 17);
}

export function percent(share) {
  if (share === null || share === undefined || !Number.isFinite(share)) return UNKNOWN;
  if (share === 0 || share === 1) return `${100 * share} %`;
  if (share > 0.9995) return "> 99.9 %";
  if (share < 0.0005) return `${number(100 * share, 2)} %`;
  return `${(100 * share).toFixed(1)} %`;
}

// 12345 as 12 345, with a space that does not break.
export function count(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, "\u00a0");
}

// Where theta is, axis by axis.
export function place(axes, theta, digits = 4) {
  return axes.map((axis, i) => `${axis.name} = ${number(theta[i], digits)}`).join(", ");
}
