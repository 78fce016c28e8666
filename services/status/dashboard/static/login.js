// Who looks at the page, where the services ask for tokens.
//
// The token is exchanged for a cookie that no script can read, this one included.

import { beginSession, endSession, getJson } from "./api.js";
import { button, element, write } from "./elements.js";

const UNKNOWN = 401;

// Resolves once it is known who looks at the page.
export async function signIn() {
  try {
    greet(await getJson("/api/session"));
  } catch (error) {
    if (error.status !== UNKNOWN) throw error;
    greet(await askForToken());
  }
}

function greet(session) {
  const leave = button("Sign out", async () => {
    await endSession();
    location.reload();
  });
  const name = element("bdi", {}, session.subject);
  document.querySelector("footer").append(element("span", { id: "who" }, " · ", name, " "), leave);
}

function askForToken() {
  const field = element("input", {
    type: "password",
    autocomplete: "off",
    required: "",
    "aria-label": "Token or API key",
    placeholder: "Token or API key",
  });
  const trouble = element("p", { class: "reason", role: "alert" });
  const form = element(
    "form",
    { id: "login", class: "card" },
    element("h1", {}, "Sign in"),
    field,
    element("button", { class: "button primary", type: "submit" }, "Sign in"),
    trouble,
  );
  const main = document.querySelector("main");
  const upload = document.querySelector("label[for=picker]");
  main.hidden = upload.hidden = true;
  main.before(form);
  field.focus();
  return new Promise((resolve) => {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        const session = await beginSession(field.value.trim());
        form.remove();
        main.hidden = upload.hidden = false;
        resolve(session);
      } catch (error) {
        write(trouble, error.message);
      }
    });
  });
}
