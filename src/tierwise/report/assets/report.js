"use strict";
// Draws the plots that the page's JSON describes (see plots.py). Colours come from the style sheet, so light and dark
// need no code.
(() => {
  const specs = JSON.parse(document.getElementById("plot-data").textContent);
  const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif';
  const SIDE = 60, BELOW = 32, GAP = 10;
  const element = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const faint = (name, share) => `color-mix(in srgb, ${colour(name)} ${share}%, transparent)`;
  const mixed = (name, share) => `color-mix(in srgb, ${colour(name)} ${share}%, ${colour("card")})`;

  // Numbers in words. Each takes a value and the width of its axis, which decides the unit of an instant.
  const round = (value, digits) => String(+value.toPrecision(digits));
  const milliseconds = (value) => {
    if (value >= 3.6e6) return round(value / 3.6e6, 3) + " h";
    if (value >= 6e4) return round(value / 6e4, 3) + " min";
    if (value >= 1000) return round(value / 1000, 3) + " s";
    if (value >= 1) return round(value, 3) + " ms";
    return round(value * 1000, 3) + " µs";
  };
  const instant = (value, span) => {
    const [size, unit] = span > 5 * 86400 ? [86400, "d"] : span > 5 * 3600 ? [3600, "h"] : span > 300 ? [60, "min"] : [1, "s"];
    return +(value / size).toFixed(2) + " " + unit;
  };
  const PREFIXES = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];
  const quantity = (value, unit) => {
    const size = Math.abs(value);
    if (!unit) return size >= 1e4 || size === 0 || size >= 1 ? (+value.toPrecision(4)).toLocaleString("en") : round(value, 3);
    const [factor, prefix] = size ? PREFIXES.find(([least]) => size >= least * 0.9999) ?? PREFIXES.at(-1) : [1, ""];
    return `${round(value / factor, 3)} ${prefix}${unit}`;
  };
  const write = (axis, value, span) => {
    if (axis.unit === "ms") return milliseconds(value);
    if (axis.unit === "s") return instant(value, span);
    if (axis.unit === "%") return +value.toFixed(value > 99 || value < 1 ? 2 : 1) + " %";
    return quantity(value, axis.unit);
  };

  // 1-2-5 ticks where the axis spans few decades, whole decades where it spans many, closer ones where it spans none.
  const logTicks = (low, high, room) => {
    const decades = Math.log10(high / low);
    const steps = decades < 0.8 ? [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8] : decades * 3 <= room ? [1, 2, 5] : [1];
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const step of steps) {
        const tick = step * 10 ** power;
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    }
    return ticks;
  };
  const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  const instants = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, ...SECONDS, ...SECONDS.slice(0, 10).map((days) => 86400 * (days + 1))];

  const extremes = (curves, pick) => {
    let low = Infinity, high = -Infinity;  // not Math.min(...all): thousands of arguments
    for (const curve of curves) for (const value of curve[pick]) if (value != null) { low = Math.min(low, value); high = Math.max(high, value); }
    return low <= high ? [low, high] : [0, 1];
  };

  const scaleOf = (spec, key, curves) => {
    const axis = spec[key];
    const scale = { time: false, ...(axis.log ? { distr: 3, log: 10 } : {}) };
    if (key === "x" && !axis.log && axis.low == null) return scale;  // can be zoomed
    const [low, high] = extremes(curves, key);
    const range = axis.log ? [low / 1.4, high * 1.4] : [Math.min(0, low), high > 0 ? high * 1.06 : 1];
    return { ...scale, range: () => [axis.low ?? range[0], axis.high ?? range[1]] };
  };

  // Where names are given they are shown as far as there is room, else all ticks.
  const spread = (plot, ticks, names, key) => {
    if (key === "y") return names;
    let last = -Infinity;
    return ticks.map((tick, i) => {
      const at = plot.valToPos(tick, "x"), half = names[i].length * 3.6;
      if (at - half < last) return "";
      last = at + half + 6;
      return names[i];
    });
  };

  const axisOf = (spec, key) => {
    const axis = spec[key], side = key === "y" ? 3 : 2;
    const common = { side, stroke: colour("soft"), font: FONT, grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
    if (axis.hidden && key === "y") return { ...common, size: SIDE, values: () => [], grid: { show: false } };
    const options = { ...common, size: key === "y" ? SIDE : BELOW };
    if (axis.unit === "s") options.incrs = instants;
    if (key === "x") options.space = 70;
    if (axis.ticks) options.splits = () => axis.ticks;
    else if (axis.log) {
      options.splits = (plot, _axis, low, high) => logTicks(low, high, key === "y" ? plot.height / 34 : plot.width / 64);
    }
    if (axis.log) options.filter = (_plot, ticks) => ticks;
    options.values = (plot, ticks) => {
      const { min, max } = plot.scales[key];
      // An axis of shares may go on beyond 100 %, so that a line there is seen; shares do not.
      const told = (tick) => tick == null || axis.unit === "%" && tick > 100 ? "" : write(axis, tick, max - min);
      const names = axis.names ?? ticks.map(told);
      return axis.ticks ? spread(plot, ticks, names, key) : names;
    };
    return axis.hidden ? { ...options, size: 6, values: () => [] } : options;
  };

  const stroked = (plot, name, width, dash, path) => {
    const context = plot.ctx;
    context.save();
    context.strokeStyle = colour(name);
    context.lineWidth = width * devicePixelRatio;
    context.setLineDash(dash.map((length) => length * devicePixelRatio));
    context.beginPath();
    path(context);
    context.stroke();
    context.restore();
  };

  const drawSpans = (spec) => (plot) => {
    const context = plot.ctx, { left, top, width, height } = plot.bbox;
    for (const span of spec.spans ?? []) {
      const from = Math.max(left, plot.valToPos(span.start, "x", true));
      const to = Math.min(left + width, plot.valToPos(span.end, "x", true));
      if (to <= left || from >= left + width) continue;
      const wide = Math.max(to - from, 2 * devicePixelRatio);
      context.save();
      context.fillStyle = faint(span.colour, 16);
      context.fillRect(from, top, wide, height);
      context.fillStyle = colour(span.colour);
      context.fillRect(from, top, wide, 3 * devicePixelRatio);
      context.restore();
    }
  };

  // A dashed line at each mark, its name beside its top; names of near marks stand below one another.
  const drawMarks = (spec) => (plot) => {
    const { left, top, width, height } = plot.bbox, line = 15 * devicePixelRatio;
    let row = 0, last = -Infinity;
    for (const mark of spec.marks ?? []) {
      const at = Math.round(plot.valToPos(mark.at, mark.across ? "y" : "x", true));
      if (mark.across) {
        if (at < top || at > top + height) continue;
        stroked(plot, mark.colour ?? "soft", 1.5, [5, 4], (path) => { path.moveTo(left, at); path.lineTo(left + width, at); });
      } else {
        if (at < left || at > left + width) continue;
        stroked(plot, mark.colour ?? "soft", 1.5, [5, 4], (path) => { path.moveTo(at, top); path.lineTo(at, top + height); });
      }
      if (!mark.text) continue;
      const context = plot.ctx;
      context.save();
      context.font = FONT.replace("12px", `${12 * devicePixelRatio}px`);
      const long = context.measureText(mark.text).width, pad = 4 * devicePixelRatio;
      const x = mark.across ? left + width - long - pad : at + long + 2 * pad > left + width ? at - long - pad : at + pad;
      row = !mark.across && x < last ? row + 1 : 0;
      last = Math.max(last, x + long + 2 * pad);
      const y = mark.across ? at - line : top + row * line;
      context.fillStyle = faint("card", 85);
      context.fillRect(x - pad / 2, y, long + pad, line);
      context.fillStyle = colour(mark.colour ?? "soft");
      context.textBaseline = "middle";
      context.textAlign = "left";
      context.fillText(mark.text, x, y + line / 2);
      context.restore();
    }
  };

  const drawCrosses = (spec) => (plot) => {
    const { top, height } = plot.bbox, size = 4 * devicePixelRatio;
    stroked(plot, "bad", 1.5, [], (path) => {
      for (const at of spec.crosses ?? []) {
        const x = plot.valToPos(at, "x", true), y = top + height - 2 * size;
        path.moveTo(x - size, y - size); path.lineTo(x + size, y + size);
        path.moveTo(x + size, y - size); path.lineTo(x - size, y + size);
      }
    });
  };

  // A point between two gaps has no line: it is drawn as a point.
  const alone = (plot, index) => {
    const values = plot.data[index], found = [];
    values.forEach((value, i) => { if (value != null && values[i - 1] == null && values[i + 1] == null) found.push(i); });
    return found;
  };

  const seriesOf = (spec, curve) => {
    const shape = curve.shape ?? "line", stroke = colour(curve.colour);
    if (shape === "points") {
      return { stroke, paths: () => null, points: { show: true, size: 5, width: 0, fill: stroke, stroke } };
    }
    return {
      stroke, width: spec.hold || !curve.filled ? 2 : 1.5, dash: curve.dashed ? [7, 4] : undefined,
      fill: curve.filled ? (spec.stack ? mixed(curve.colour, 42) : faint(curve.colour, 24)) : undefined,
      paths: shape === "steps" ? uPlot.paths.stepped({ align: 1 }) : undefined,
      points: shape === "dots" ? { show: true, size: 7, width: 0, fill: stroke }
        : shape === "line" ? { show: true, size: 4, width: 0, fill: stroke, filter: alone } : { show: false },
    };
  };

  // Every curve on the union of all x, holding its value between its own points.
  const held = (curves, xs) => curves.map(({ x, y }) => {
    let next = 0;
    return xs.map((at) => {
      while (next < x.length && x[next] <= at) next++;
      return next ? y[next - 1] : 0;
    });
  });
  const tableOf = (spec) => {
    const more = [...(spec.at ?? []), ...(spec.crosses ?? [])].sort((a, b) => a - b);
    if (spec.hold) {
      const xs = [...new Set(spec.curves.flatMap((curve) => curve.x).concat(more))].sort((a, b) => a - b);
      return [xs, ...held(spec.curves, xs)];
    }
    const tables = spec.curves.map((curve) => [curve.x, curve.y]);
    if (more.length) tables.push([more, more.map(() => undefined)]);
    return uPlot.join(tables).slice(0, spec.curves.length + 1);
  };
  const stacked = (table) => {
    const sums = table[0].map(() => 0);
    return [table[0], ...table.slice(1).map((values) => values.map((value, i) => sums[i] += value ?? 0))];
  };

  const told = (spec, table) => (index, span) => {
    const values = spec.curves.map((curve, i) => [curve, table[i + 1][index]]).filter(([curve, value]) => curve.told !== false && value != null);
    const at = table[0][index];
    const during = [...new Set((spec.spans ?? []).filter(({ start, end }) => start <= at && at < end).map(({ text }) => text))];
    if (!values.length && !during.length) return "";
    const x = spec.x.names?.[spec.x.ticks.indexOf(at)] ?? write(spec.x, at, span);
    const parts = values.map(([curve, value]) => `${curve.name} ${write(spec.y, value, 0)}`);
    return `${spec.lead ?? "at"} ${x}: ` + [...parts, ...during].join(", ");
  };

  const drawPlot = (spec) => {
    const home = element(spec.id), table = tableOf(spec), tell = told(spec, table);
    const data = spec.stack ? stacked(table) : table;
    const curves = data.slice(1).map((y, i) => ({ x: spec.curves[i].x, y }));
    const output = element(spec.id + "-readout");
    // What stands highest in a stack is drawn first, so that the others cover it.
    const order = spec.curves.map((_, i) => i);
    if (spec.stack) order.reverse();
    const options = {
      width: Math.max(home.clientWidth, 200), height: spec.height ?? 240, legend: { show: false }, padding: [GAP, 20, 0, 0],
      cursor: {
        drag: spec.zoom ? { x: true, y: false, setScale: true } : { x: false, y: false },
        points: { show: false }, y: false, ...(spec.sync ? { sync: { key: spec.sync, setSeries: false } } : {}),
      },
      scales: { x: scaleOf(spec, "x", curves), y: scaleOf(spec, "y", curves) },
      axes: [axisOf(spec, "x"), axisOf(spec, "y")],
      series: [{}, ...order.map((i) => seriesOf(spec, spec.curves[i]))],
      // A stack would cover what is shaded beneath it.
      hooks: {
        drawAxes: spec.stack ? [] : [drawSpans(spec)],
        draw: [...(spec.stack ? [drawSpans(spec)] : []), drawMarks(spec), drawCrosses(spec)],
      },
    };
    if (output) {
      options.hooks.setCursor = [({ cursor: { idx }, scales }) => { output.textContent = idx == null ? "" : tell(idx, scales.x.max - scales.x.min); }];
    }
    return new uPlot(options, [data[0], ...order.map((i) => data[i + 1])], home);
  };

  let plots = [];
  const draw = () => {
    plots.forEach((plot) => plot.destroy());
    plots = specs.map(drawPlot);
    document.documentElement.dataset.plots = plots.length;
  };
  draw();
  new ResizeObserver(() => plots.forEach((plot) => {
    const width = plot.root.parentElement.clientWidth;
    if (width && width !== plot.width) plot.setSize({ width, height: plot.height });
  })).observe(document.querySelector("main"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
