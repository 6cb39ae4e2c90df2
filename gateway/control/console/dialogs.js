// The dialogs: resume asks for a reason, promote shows its edit first.

import { post, words } from "/console/api.js";
import { byId, clock, el, say } from "/console/dom.js";

const path = (release, command) => `/api/releases/${encodeURIComponent(release.model)}/${command}`;

export function resume(release, card) {
  say(byId("resume-title"), `Resume version ${release.candidate} of ${release.model}`);
  const stop = release.stop;
  say(byId("resume-was"), stop ? `It was stopped by ${stop.by} at ${clock(stop.time_ns)}: ${stop.reason}` : "");
  ask("resume-dialog", async (reason) => {
    card.commandSequence = (await post(path(release, "resume"), { reason })).sequence;
    card.confirm(`Resumed: version ${release.candidate} receives traffic again, as routed.`);
    card.update({ ...card.release, stopped: false, stop: null });
    return card.stopButton;
  });
}

export async function promote(release, card) {
  const candidate = release.candidate; // as shown: it may have been replaced by the time that the edit has been read
  try {
    const edit = await post(path(release, "promote"), { dry_run: true, candidate });
    say(byId("promote-title"), `Promote version ${release.candidate} of ${release.model} to stable`);
    byId("promote-dialog").querySelector(".diff").replaceChildren(...lines(edit.difference));
    ask("promote-dialog", async (reason) => {
      await post(path(release, "promote"), { reason, candidate });
      card.confirm(`Promoted: version ${release.candidate} answers every request.`);
      return card.element;
    });
  } catch (error) {
    card.fail(`Not promoted: ${words(error)}`);
  }
}

function lines(difference) {
  return difference.split("\n").slice(2).map((line) => {
    const kind = line.startsWith("+") ? "ins" : line.startsWith("-") ? "del" : "span";
    return el(kind, {}, `${line}\n`);
  });
}

/** Open the dialog; on submit call `act` and focus the element that it returns. On failure the dialog stays open and shows the error. */
function ask(id, act) {
  const dialog = byId(id);
  const form = dialog.querySelector("form");
  const failure = dialog.querySelector(".failure");
  form.reset();
  failure.hidden = true;
  form.onsubmit = async (event) => {
    event.preventDefault();
    try {
      const reason = form.elements.reason.value.trim();
      dialog.querySelector("[type=submit]").disabled = true;
      const next = await act(reason);
      dialog.close();
      next.focus();
    } catch (error) {
      failure.hidden = false;
      say(failure, words(error));
    } finally {
      dialog.querySelector("[type=submit]").disabled = false;
    }
  };
  dialog.querySelector("[data-close]").onclick = () => dialog.close();
  dialog.showModal();
}
