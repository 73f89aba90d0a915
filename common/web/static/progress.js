// Keeps the training of the rounds page up to date; without it the page reloads itself while a round runs.
"use strict";
const live = document.getElementById("live");
const EVERY_MS = 4000;

async function look() {
  try {
    const answer = await fetch(live.dataset.url, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const now = await answer.json();
    if (String(now.running) !== live.dataset.running) {
      location.reload();
      return;
    }
    if (now.running) {
      const message = document.getElementById("message");
      // Written only when it is new: a screen reader says it each time.
      if (message.textContent !== now.message) message.textContent = now.message;
      const bar = document.getElementById("bar");
      bar.max = now.epochs || 1;
      bar.value = now.epoch;
    }
  } catch {
    // The service is away for a moment: the next look tells.
  }
}

setInterval(() => { if (!document.hidden) look(); }, EVERY_MS);
