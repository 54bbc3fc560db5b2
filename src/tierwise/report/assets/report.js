"use strict";
// Draws the three plots from the JSON in the page. Colours come from the style sheet, so light and dark need no code.
(() => {
  const data = JSON.parse(document.getElementById("plot-data").textContent);
  const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif';
  const SIDE = 60;
  const element = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const tierColour = (name) => colour(["device", "edge", "cloud"].includes(name) ? name : "other");
  const faint = (name) => `color-mix(in srgb, ${tierColour(name)} 24%, transparent)`;
  const dash = (name) => data.modelled.includes(name) ? [7, 4] : undefined;
  const tiers = data.tiers.filter((tier) => tier.timeline.x.length);
  const timed = tiers.filter((tier) => data.over_time.includes(tier.name));
  const lossy = data.tiers.filter((tier) => data.over_time.includes(tier.name) || !data.modelled.includes(tier.name));

  const milliseconds = (value) => {
    if (value >= 1000) return +(value / 1000).toPrecision(3) + " s";
    if (value >= 1) return +value.toPrecision(3) + " ms";
    return +(value * 1000).toPrecision(3) + " µs";
  };

  // 1-2-5 ticks where the axis spans few decades, whole decades where it spans many.
  const logTicks = (low, high, room) => {
    const steps = Math.log10(high / low) * 3 <= room ? [1, 2, 5] : [1];
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const step of steps) {
        const tick = step * 10 ** power;
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    }
    return ticks;
  };

  const axis = (options) => ({
    stroke: colour("soft"), font: FONT, grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, ...options,
  });
  const latencyScale = (lowest, highest) => ({ distr: 3, log: 10, range: () => [lowest / 1.4, highest * 1.4] });
  const commonScale = () => latencyScale(data.bins_ms[0], data.bins_ms[data.bins_ms.length - 1]);
  const latencyAxis = (options) => axis({
    splits: (plot, _axis, low, high) => logTicks(low, high, options.side === 3 ? plot.height / 34 : plot.width / 64),
    filter: (_plot, ticks) => ticks,
    values: (_plot, ticks) => ticks.map(milliseconds),
    ...options,
  });

  // A dashed line at each configured delay: what lies left of it cannot be, however fast the tier is.
  const configuredLines = (plot) => {
    const context = plot.ctx, { left, top, width, height } = plot.bbox;
    for (const tier of data.configured) {
      const x = Math.round(plot.valToPos(tier.ms, "x", true));
      if (x < left || x > left + width) continue;
      context.save();
      context.strokeStyle = colour("soft");
      context.lineWidth = 1.5 * devicePixelRatio;
      context.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
      context.beginPath();
      context.moveTo(x, top);
      context.lineTo(x, top + height);
      context.stroke();
      context.restore();
    }
  };

  const lostMarks = (plot) => {
    const context = plot.ctx, { top, height } = plot.bbox, size = 4 * devicePixelRatio;
    context.save();
    context.strokeStyle = colour("bad");
    context.lineWidth = 1.5 * devicePixelRatio;
    for (const tier of lossy) {
      for (const at of tier.lost_s) {
        const x = plot.valToPos(at, "x", true), y = top + height - 2 * size;
        context.beginPath();
        context.moveTo(x - size, y - size); context.lineTo(x + size, y + size);
        context.moveTo(x + size, y - size); context.lineTo(x - size, y + size);
        context.stroke();
      }
    }
    context.restore();
  };

  const base = (id, height, readout) => ({
    width: Math.max(element(id).clientWidth, 200), height, legend: { show: false }, padding: [10, 14, 0, 0],
    cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
    hooks: readout ? { setCursor: [({ cursor: { idx } }) => { element(id + "-readout").textContent = idx == null ? "" : readout(idx); }] } : {},
  });

  // Each tier's highest bin is as high as the plot: a sharp tier must not flatten a broad one. The curve has the shares.
  const histogram = () => {
    const options = base("histogram", 120);
    options.scales = { x: { time: false, ...commonScale() }, y: { range: [0, 1.04] } };
    options.axes = [latencyAxis({ size: 6, values: () => [] }), axis({ size: SIDE, values: () => [], grid: { show: false } })];
    options.cursor.sync = { key: "latency", setSeries: false };
    options.hooks.draw = [configuredLines];
    options.series = [{}].concat(tiers.map((tier) => ({
      stroke: tierColour(tier.name), fill: faint(tier.name), width: 1.5, dash: dash(tier.name), points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }),
    })));
    // A zero on either side, so that the outermost bins have both their flanks.
    const heights = tiers.map((tier) => [0, ...tier.share_by_bin, 0].map((share) => share / Math.max(...tier.share_by_bin)));
    return new uPlot(options, [[data.bins_ms[0] / 1.0001, ...data.bins_ms]].concat(heights), element("histogram"));
  };

  // Every curve on the union of all latencies, holding its value between its own points.
  const cumulativeData = () => {
    const xs = [...new Set(tiers.flatMap((tier) => tier.cumulative.x).concat(data.bins_ms))].sort((a, b) => a - b);
    return [xs].concat(tiers.map((tier) => {
      const { x, y } = tier.cumulative;
      let next = 0;
      return xs.map((at) => {
        while (next < x.length && x[next] <= at) next++;
        return next ? y[next - 1] : 0;
      });
    }));
  };

  const cumulative = () => {
    const series = cumulativeData();
    const options = base("cumulative", 240, (index) =>
      `within ${milliseconds(series[0][index])}: ` + tiers.map((tier, i) => `${tier.name} ${+series[i + 1][index].toFixed(1)} %`).join(", "));
    options.scales = { x: { time: false, ...commonScale() }, y: { range: [0, 104] } };
    options.axes = [latencyAxis({ size: 32 }), axis({ size: SIDE, splits: [0, 25, 50, 75, 100], values: (_plot, ticks) => ticks.map((tick) => tick + " %") })];
    options.cursor.sync = { key: "latency", setSeries: false };
    options.hooks.draw = [configuredLines];
    options.series = [{}].concat(tiers.map((tier) => ({
      stroke: tierColour(tier.name), width: 2, dash: dash(tier.name), points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }),
    })));
    return new uPlot(options, series, element("cumulative"));
  };

  const timeline = () => {
    const lost = lossy.flatMap((tier) => tier.lost_s).sort((a, b) => a - b);
    const tables = timed.map((tier) => [tier.timeline.x, tier.timeline.y]).concat([[lost, lost.map(() => null)]]);
    const joined = uPlot.join(tables);
    const options = base("timeline", 240, (index) => {
      const told = timed.map((tier, i) => [tier.name, joined[i + 1][index]]).filter(([, value]) => value != null);
      return told.length ? `after ${+joined[0][index].toFixed(2)} s: ` + told.map(([name, value]) => `${name} ${milliseconds(value)}`).join(", ") : "";
    });
    // Not Math.min(...all): thousands of arguments.
    const extreme = (pick) => timed.map((tier) => tier.timeline.y.reduce((a, b) => pick(a, b))).reduce((a, b) => pick(a, b));
    options.scales = { x: { time: false }, y: latencyScale(extreme(Math.min), extreme(Math.max)) };
    options.axes = [
      axis({ size: 32, space: 70, values: (_plot, ticks) => ticks.map((tick) => tick + " s") }),
      latencyAxis({ side: 3, size: SIDE }),
    ];
    options.cursor.drag = { x: true, y: false, setScale: true };
    options.hooks.draw = [lostMarks];
    options.series = [{}].concat(timed.map((tier) => ({
      stroke: tierColour(tier.name), paths: () => null,
      points: { show: true, size: 5, width: 0, fill: tierColour(tier.name), stroke: tierColour(tier.name) },
    })), [{ paths: () => null, points: { show: false } }]);
    return new uPlot(options, joined, element("timeline"));
  };

  let plots = [];
  const draw = () => {
    plots.forEach((plot) => plot.destroy());
    plots = tiers.length ? [histogram(), cumulative(), timeline()] : [];
    document.documentElement.dataset.plots = plots.length;
  };
  draw();
  new ResizeObserver(() => plots.forEach((plot) => {
    const width = plot.root.parentElement.clientWidth;
    if (width && width !== plot.width) plot.setSize({ width, height: plot.height });
  })).observe(document.querySelector("main"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
