// Small charts.

const SVG = "http://www.w3.org/2000/svg";

/** Draws numbers, the newest at the right, into an element. `slots` is how many there may be. */
export function drawChart(element, numbers, slots, most = Math.max(...numbers, 1)) {
  let path = element.querySelector("path");
  if (!path) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${slots - 1} 100`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    path = document.createElementNS(SVG, "path");
    svg.append(path);
    element.append(svg);
  }
  const first = slots - numbers.length;
  const points = numbers.map((number, at) => `${first + at} ${100 - (100 * number) / most}`);
  path.setAttribute("d", points.length ? `M${first} 100L${points.join("L")}L${slots - 1} 100` : "");
}

/** A hue for each of a list of names, far from that of its neighbours: steps of the golden angle. */
export function hues(names) {
  return new Map(names.map((name, at) => [name, Math.round(at * 137.5) % 360]));
}
