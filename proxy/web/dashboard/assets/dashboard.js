// What the pages do beside showing: they keep themselves up to date, draw the chart, copy, and purge with a token that
// is sent as Authorization and kept nowhere.
"use strict";

(() => {
  const EVERY = 10000;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Parts of the page that ask for themselves anew, as long as somebody looks.
  const tick = () => {
    if (document.hidden) return;
    for (const part of all("[data-hx-trigger='tick']")) htmx.trigger(part, "tick");
    document.dispatchEvent(new CustomEvent("tick"));
  };
  setInterval(tick, EVERY);
  document.addEventListener("visibilitychange", tick);

  // Copying: where the browser allows it to no page that is not https, what is to be copied is selected instead.
  for (const snippet of all(".snippet")) {
    const button = snippet.querySelector("button"), code = snippet.querySelector("code");
    button.hidden = false;
    button.addEventListener("click", async () => {
      let done = "Copied";
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code);
        if (!document.execCommand("copy")) done = "Press Ctrl+C";
      }
      button.textContent = done;
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  for (const form of all("form[data-purge]")) {
    const token = form.querySelector("input[type=password]"), soft = form.querySelector("input[type=checkbox]");
    const button = form.querySelector("button"), told = form.querySelector("output");
    const say = (text, kind) => { told.textContent = text; told.className = kind; };
    form.hidden = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      say("…", "");
      try {
        const answer = await fetch("/-/purge", {
          method: "POST",
          credentials: "omit",
          headers: { "Authorization": `Bearer ${token.value}`, "Content-Type": "application/json" },
          body: JSON.stringify({ crate: form.dataset.purge, soft: soft.checked }),
        });
        const body = await answer.json().catch(() => ({}));
        if (answer.ok) {
          const things = body.purged === 1 ? "value or file" : "values and files";
          say(`${body.purged} ${things} ${soft.checked ? "will be revalidated" : "deleted"}.`, "good");
          token.value = "";
          const part = document.querySelector("#crate");
          if (part) htmx.ajax("GET", location.pathname, { target: "#crate", select: "#crate", swap: "outerHTML" });
        } else {
          say(body.errors?.[0]?.detail ?? `It was answered with status ${answer.status}: purging may be closed to this network.`, "bad");
        }
      } catch {
        say("The proxy could not be reached.", "bad");
      }
      button.disabled = false;
    });
  }

  const chart = document.querySelector("#chart");
  if (chart && window.uPlot) draws(chart);

  function draws(chart) {
    const plot = chart.querySelector(".plot"), none = chart.querySelector(".none");
    const buttons = all("[data-span]", chart);
    let span = "hours", drawn = null, shape = "", data = null;

    const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const percent = (value) => value == null ? "–" : `${(value * 100).toFixed(value === 1 || value === 0 ? 0 : 1)} %`;
    const requests = (count) => `${count.toLocaleString("en")} request${count === 1 ? "" : "s"}`;
    const width = () => plot.clientWidth;

    const options = () => {
      const ink = color("--muted"), line = color("--line");
      const axis = { stroke: ink, font: `12px ${getComputedStyle(document.body).fontFamily}`, ticks: { show: false } };
      return {
        width: width(),
        height: innerWidth < 600 ? 190 : 240,
        tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
        scales: { x: { time: true, range: () => extent() }, y: { range: [0, 1.02] } },
        axes: [
          { ...axis, grid: { show: false }, space: 70, values: (u, at) => at.map((each) => clock(each)) },
          { ...axis, grid: { stroke: line, width: 1 }, size: 52, splits: () => [0, .25, .5, .75, 1], values: (u, at) => at.map((each) => `${each * 100} %`) },
        ],
        cursor: { y: false, points: { size: 6 } },
        hooks: { draw: [(u) => setTimeout(latest, 0, u)], setCursor: [(u) => setTimeout(latest, 0, u)] },
        legend: { live: true },
        series: [
          { label: "", value: (u, at, place, index) => at == null ? "" : `${clock(at, true)}, ${requests(data.requests[index])}` },
          ...data.series.map((series, place) => ({
            label: series.name,
            stroke: color(`--s${place}`),
            width: place ? 1.5 : 2.5,
            points: { show: alone, size: 5 },
            spanGaps: true,
            value: (u, value) => percent(value),
          })),
        ],
      };
    };

    function clock(at, exact = false) {
      const [day, time] = new Date(at * 1000).toISOString().split("T");
      const short = `${Number(day.slice(8))}.${Number(day.slice(5, 7))}.`;
      if (span === "month") return exact ? day : short;
      return exact && span === "days" || !exact && time.startsWith("00:00") ? `${short} ${time.slice(0, 5)}` : time.slice(0, 5);
    }

    // From a little before the first value: a proxy that was just set up has no history to leave room for.
    function extent() {
      const first = data.series[0].ratios.findIndex((value) => value !== null);
      const last = data.times.at(-1), step = data.times.length > 1 ? data.times[1] - data.times[0] : 86400;
      return [Math.max(data.times[0], Math.min(data.times[first] ?? last, last - 20 * step) - step), last + step / 2];
    }

    function draw() {
      chart.hidden = document.querySelector("#summary .empty") !== null;
      if (chart.hidden) return;
      const something = data.series.some((series) => series.ratios.some((value) => value !== null));
      none.hidden = something;
      plot.hidden = !something;
      if (!something) return;
      const columns = [data.times, ...data.series.map((series) => series.ratios)];
      const now = [span, ...data.series.map((series) => series.name)].join();
      if (drawn && now === shape) {
        drawn.setData(columns);
        return;
      }
      drawn?.destroy();
      shape = now;
      drawn = new uPlot(options(), columns, plot);
    }

    // While nobody points at a moment, the legend tells of the last one with a value.
    function latest(u) {
      if (u.cursor.left >= 0) return;
      const last = u.data[1].findLastIndex((value) => value !== null);
      u.setLegend({ idx: last });
    }

    // One value by itself has no line: it needs a point to be seen.
    function alone(u, place) {
      return u.data[place].filter((value) => value !== null).length === 1;
    }

    async function load() {
      try {
        const answer = await fetch(`/history?span=${span}`, { credentials: "same-origin" });
        if (!answer.ok) return;
        data = await answer.json();
        draw();
      } catch { /* the next tick tries again */ }
    }

    const anew = () => { if (data) { shape = ""; draw(); } };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        span = button.dataset.span;
        for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
        load();
      });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", anew);
    new ResizeObserver(() => { if (drawn && width() && width() !== drawn.width) drawn.setSize({ width: width(), height: drawn.height }); }).observe(plot);
    document.addEventListener("tick", load);
    load();
  }
})();
