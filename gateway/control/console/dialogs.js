// The dialogs: stop and resume ask for a reason; promote, its undo and a weight show their edit first.

import { post, words } from "/console/api.js";
import { byId, clock, el, percent, say } from "/console/dom.js";

let previews = 0; // asked for: only the last one may change the dialog, which all edits share

const path = (release, command) => `/api/releases/${encodeURIComponent(release.model)}/${command}`;

/** Ask for a reason, then stop; the button "Stop" stops without asking. */
export function stopWithReason(release, card) {
  say(byId("reason-title"), `Stop version ${release.candidate} of ${release.model}`);
  say(byId("reason-was"), `Version ${release.stable} then answers every request, until someone resumes version ${release.candidate}.`);
  say(byId("reason-label"), "Why?");
  ask("reason-dialog", "Stop", async ({ reason }) => {
    await card.stop(reason);
    return card.resumeButton;
  });
}

export function resume(release, card) {
  say(byId("reason-title"), `Resume version ${release.candidate} of ${release.model}`);
  const stop = release.stop;
  say(byId("reason-was"), stop ? `It was stopped by ${stop.by} at ${clock(stop.time_ns)}: ${stop.reason}` : "");
  say(byId("reason-label"), "Why is it safe to resume?");
  ask("reason-dialog", "Resume", async ({ reason }) => {
    card.commandSequence = (await post(path(release, "resume"), { reason })).sequence;
    card.confirm(`Resumed: version ${release.candidate} receives traffic again, as routed.`);
    card.update({ ...card.release, stopped: false, stop: null });
    return card.stopButton;
  });
}

export function promote(release, card) {
  const candidate = release.candidate; // as shown: it may have been replaced by the time that the edit has been read
  return edit(card, {
    title: `Promote version ${candidate} of ${release.model} to stable`,
    option: release.routes.length ? "Keep the routes in the file, as a comment for the next candidate" : "",
    submit: "Promote",
    send: ({ keep, ...body }) => post(path(release, "promote"), { candidate, ...body, ...(keep ? { keep_routes: true } : {}) }),
    done: () => `Promoted: version ${candidate} answers every request.`,
  });
}

export function undoPromote(release, card) {
  const { stable, undo_to: old } = release;
  return edit(card, {
    title: `Undo the promotion of version ${stable} of ${release.model}`,
    option: `Bring version ${stable} back as the candidate, with the routes that it had`,
    submit: "Undo promotion",
    send: ({ keep, ...body }) => post(path(release, "undo-promote"), { stable, keep_routes: keep, ...body }),
    done: ({ keep }) => `Undone: version ${old} is stable again${keep ? `, and version ${stable} is its candidate` : ""}.`,
  });
}

export function weight(release, route, card) {
  const { candidate } = release;
  return edit(card, {
    title: `Weight of route ${route.route} of ${release.model}`,
    percent: route.weight_percent,
    submit: "Set weight",
    send: ({ keep, ...body }) => post(path(release, "weight"), { route: route.route, candidate, ...body }),
    done: (body) => `Route ${route.route} sends ${percent(body.percent)} to version ${candidate}.`,
  });
}

/** A dialog that shows an edit of the routing file before it is made. `option`: a choice that changes the edit; `percent`: a number to set. */
async function edit(card, { title, option = "", percent: before, submit, send, done }) {
  const dialog = byId("promote-dialog");
  const { keep, percent: number } = dialog.querySelector("form").elements;
  const body = () => ({ keep: keep.checked, ...(before === undefined ? {} : { percent: Number(number.value) }) });
  const diff = dialog.querySelector(".diff");
  const note = dialog.querySelector(".note");
  const failure = dialog.querySelector(".failure");
  const first = { keep: false, ...(before === undefined ? {} : { percent: before }) };
  const mine = ++previews;
  let shown;
  try {
    shown = await send({ ...first, dry_run: true });
  } catch (error) {
    card.fail(`${submit}: ${words(error)}`);
    return;
  }
  if (mine !== previews) return; // another edit has been asked for meanwhile: the dialog is its own
  const show = ({ difference, notes = [] }) => {
    diff.replaceChildren(...(difference ? lines(difference) : ["No change."]));
    say(note, notes.join(" "));
    note.hidden = !notes.length;
  };
  const again = async () => {
    const mine = ++previews;
    try {
      const shown = await send({ ...body(), dry_run: true });
      if (mine !== previews) return;
      show(shown);
      failure.hidden = true;
    } catch (error) {
      if (mine !== previews) return;
      failure.hidden = false;
      say(failure, words(error));
    }
  };
  show(shown);
  say(byId("promote-title"), title);
  say(byId("promote-option-text"), option);
  byId("promote-option").hidden = !option;
  byId("promote-percent").hidden = before === undefined;
  dialog.querySelector("form").reset();
  number.value = before ?? "";
  number.disabled = before === undefined;
  keep.onchange = again;
  number.onchange = again;
  ask("promote-dialog", submit, async ({ reason }) => {
    const given = body();
    await send({ ...given, reason });
    card.confirm(done(given));
    return card.element;
  }, { fresh: false });
}

function lines(difference) {
  return difference.split("\n").slice(2).map((line) => {
    const kind = line.startsWith("+") ? "ins" : line.startsWith("-") ? "del" : "span";
    return el(kind, {}, `${line}\n`);
  });
}

/** Open the dialog; on submit call `act` and focus the element that it returns. On failure the dialog stays open and shows the error. */
function ask(id, submit, act, { fresh = true } = {}) {
  const dialog = byId(id);
  const form = dialog.querySelector("form");
  const failure = dialog.querySelector(".failure");
  const button = dialog.querySelector("[type=submit]");
  if (fresh) form.reset();
  say(button, submit);
  button.classList.toggle("stop", submit === "Stop");
  failure.hidden = true;
  form.onsubmit = async (event) => {
    event.preventDefault();
    try {
      button.disabled = true;
      const next = await act({ reason: form.elements.reason.value.trim() });
      dialog.close();
      next.focus();
    } catch (error) {
      failure.hidden = false;
      say(failure, words(error));
    } finally {
      button.disabled = false;
    }
  };
  dialog.querySelector("[data-close]").onclick = () => dialog.close();
  dialog.showModal();
}
