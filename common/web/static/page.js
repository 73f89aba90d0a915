// Every page works without this: times in the reader's zone, a form that is sent once, a message that is said once.
"use strict";

const SHOWN = {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
};
// Swedish dates are written as the server writes them: 2026-03-01 14:05.
const zone = new Intl.DateTimeFormat("sv-SE", SHOWN);
for (const time of document.querySelectorAll("time[datetime]")) {
  time.textContent = zone.format(new Date(time.dateTime));
}

// A second click would be refused, and its refusal would hide what the first one did.
const sent = new WeakSet();
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (sent.has(event.target)) event.preventDefault();
  sent.add(event.target);
});
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of document.forms) sent.delete(form);
});

// Loaded again, the page would say once more what was done.
const address = new URL(location.href);
if (address.searchParams.has("did")) {
  address.searchParams.delete("did");
  history.replaceState(null, "", address);
}
