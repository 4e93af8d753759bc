"use strict";
(() => {
  const bubble = document.createElement("div");
  bubble.className = "bubble";
  bubble.hidden = true;
  document.body.append(bubble);

  const nearest = (times, t) => {
    let best = 0;
    times.forEach((time, i) => { if (Math.abs(time - t) < Math.abs(times[best] - t)) best = i; });
    return best;
  };

  for (const lanes of document.querySelectorAll(".lanes")) {
    const length = Number(lanes.dataset.length), end = Number(lanes.dataset.end);
    const axis = lanes.querySelector(".axis");
    const readout = JSON.parse(lanes.querySelector("script").textContent);
    const cursor = document.createElement("i");
    cursor.className = "cursor";
    cursor.hidden = true;
    lanes.append(cursor);
    const strips = [...lanes.querySelectorAll(".strip")].map((strip) => ({
      style: strip.querySelector(".picture")?.classList[1],
      times: strip.dataset.times.split(",").map(Number),
    }));

    const show = (event) => {
      const box = axis.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      if (share < 0 || share > end) return hide();
      const t = share * length;
      cursor.hidden = bubble.hidden = false;
      cursor.style.left = `${box.left - lanes.getBoundingClientRect().left + share * box.width}px`;
      bubble.replaceChildren();
      const shots = document.createElement("div");
      shots.className = "shots";
      for (const { style, times } of strips) {
        if (!style) continue;
        const shot = document.createElement("i");
        shot.className = `shot ${style}`;
        shot.style.backgroundPositionX = `${(100 * nearest(times, t)) / Math.max(times.length - 1, 1)}%`;
        shots.append(shot);
      }
      if (shots.childElementCount) bubble.append(shots);
      const line = document.createElement("p");
      const add = (text, name) => {
        const span = document.createElement("span");
        span.textContent = text;
        if (name) span.className = name;
        line.append(span);
      };
      add(`${t.toFixed(2)} s`);
      if (readout.t.length) {
        const i = nearest(readout.t, t);
        for (const [name, values] of Object.entries(readout)) {
          if (name !== "t") add(`${name} ${values[i].toFixed(2)}`, `t-${name}`);
        }
      }
      bubble.append(line);
      const width = bubble.offsetWidth, height = bubble.offsetHeight;
      const left = Math.min(Math.max(8, event.clientX - width / 2), window.innerWidth - width - 8);
      const above = event.clientY - height - 24;
      bubble.style.left = `${left}px`;
      bubble.style.top = `${above > 8 ? above : event.clientY + 28}px`;
    };
    const hide = () => { cursor.hidden = bubble.hidden = true; };
    lanes.addEventListener("pointermove", show);
    lanes.addEventListener("pointerdown", show);
    lanes.addEventListener("pointerleave", hide);
  }

  const openTarget = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
  };
  window.addEventListener("hashchange", openTarget);
  openTarget();
})();
