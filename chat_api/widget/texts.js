/** The widget's own words, by language: those of statuses, error codes and finish reasons among them. */

export const TEXTS = {
  en: {
    title: "Chat", open: "Open chat", close: "Close chat", restart: "New conversation", log: "Conversation",
    ask: "Ask a question…", send: "Send", stop: "Stop", thinking: "Looking for an answer…",
    sources: "Sources", source: "Source", page: "page", newTab: "opens in a new tab", you: "You asked", answer: "Answer",
    retry: "Try again", up: "Helpful", down: "Not helpful", thanks: "Thank you for your feedback.",
    endings: { stopped: "Stopped.", length: "The answer ends here because it got too long." },
    statuses: {
      connecting: "Connecting…",
      retrying: "No connection. Trying again…",
      offline: "You are offline. The chat goes on when you are back.",
      unavailable: "The chat is not available right now.",
      forbidden: "The chat is not enabled for this website.",
      rejected: "The chat could not sign you in.",
    },
    errors: {
      busy: "The previous answer is still being written.",
      too_long: "The question is too long. Please shorten it.",
      rate_limited: "That was a lot of questions. Please wait a moment.",
      budget_exhausted: "The assistant has reached its limit for now.",
      provider_unavailable: "The assistant can't answer right now. Please try again in a moment.",
      provider_rejected: "The assistant can't answer this question.",
      internal: "Something went wrong on our side.",
    },
  },
  de: {
    title: "Chat", open: "Chat öffnen", close: "Chat schließen", restart: "Neue Unterhaltung", log: "Unterhaltung",
    ask: "Stellen Sie eine Frage…", send: "Senden", stop: "Anhalten",
    thinking: "Eine Antwort wird gesucht…", sources: "Quellen", source: "Quelle", page: "Seite",
    newTab: "öffnet in neuem Tab", you: "Ihre Frage", answer: "Antwort",
    retry: "Noch einmal", up: "Hilfreich", down: "Nicht hilfreich", thanks: "Danke für Ihre Rückmeldung.",
    endings: { stopped: "Angehalten.", length: "Die Antwort endet hier, weil sie zu lang wurde." },
    statuses: {
      connecting: "Die Verbindung wird aufgebaut…",
      retrying: "Keine Verbindung. Neuer Versuch…",
      offline: "Sie sind offline. Der Chat geht weiter, sobald Sie wieder verbunden sind.",
      unavailable: "Der Chat ist im Moment nicht verfügbar.",
      forbidden: "Der Chat ist für diese Website nicht freigeschaltet.",
      rejected: "Die Anmeldung am Chat ist gescheitert.",
    },
    errors: {
      busy: "Die vorige Antwort wird noch geschrieben.",
      too_long: "Die Frage ist zu lang. Bitte kürzen Sie sie.",
      rate_limited: "Das waren viele Fragen. Bitte warten Sie einen Moment.",
      budget_exhausted: "Der Assistent hat sein Limit vorerst erreicht.",
      provider_unavailable: "Der Assistent kann gerade nicht antworten. Bitte versuchen Sie es gleich noch einmal.",
      provider_rejected: "Der Assistent kann diese Frage nicht beantworten.",
      internal: "Bei uns ist etwas schiefgegangen.",
    },
  },
};
