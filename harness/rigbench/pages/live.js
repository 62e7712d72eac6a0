// Only of `rigbench serve`: the run that is going on, and the page anew when the results have changed.
"use strict";

const source = new EventSource("/events");
source.addEventListener("built", () => { if (!document.getElementById("cases")) location.reload(); });
source.addEventListener("run", (event) => {
  const run = JSON.parse(event.data), status = document.getElementById("status"), table = document.getElementById("cases");
  if (!table) return;
  status.textContent = run.text;
  const progress = document.getElementById("progress");
  progress.hidden = table.hidden = !run.cases.length;
  if (run.total) { progress.max = run.total; progress.value = run.done; } else progress.removeAttribute("value");
  table.tBodies[0].replaceChildren(...run.cases.map((line) => {
    const tr = document.createElement("tr");
    tr.append(...line.map((text, place) => {
      const td = document.createElement("td");
      if (place) td.className = "number";
      td.textContent = text;
      return td;
    }));
    return tr;
  }));
});
