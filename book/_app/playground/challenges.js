"use strict";

// Challenges check themselves. `start` is the setting with which one opens, `fixed` names what must stay so: all that
// would reach the number asked for without what the challenge is about. `check(now, before)` returns whether it is done,
// and a sentence on how far it is. `now` and `before` are runs: { setting, rounds (of the federation), rivals (by round),
// bad, epsilon, guesses (which hospital is the bad one, the first guess first) }.

const last = (list) => list[list.length - 1];
const ended = ({ setting, rounds }) => rounds.length >= setting.rounds;
const scoreOf = (run) => rounded(last(run.rounds).joint);

// How hospitals alone do in the last round that both they and the federation have played, and which round that is;
// null before there is one. They may lag behind, for they train in a worker of their own.
function aloneOf(run) {
  const known = last(run.rivals.filter(({ round, alone }) => alone !== null && round <= run.rounds.length));
  return known === undefined ? null : { round: known.round, ...known.alone };
}

const startOf = (name) => ({ ...defaults(), ...CHALLENGES[name].start });
const changed = (name, setting) => CHALLENGES[name].fixed.filter((key) => setting[key] !== startOf(name)[key]);

const HOSPITALS = ["hospitals", "patients", "alpha", "quantity", "stain", "bad"];    // and what they do
const LOSSES = ["participation", "lost", "clip", "noise"];    // what makes any federation worse

const rounded = (value) => `${Math.round(100 * value)} %`;
const sameBut = (left, right, name) => Object.keys(SETTINGS).every((key) => key === name || left[key] === right[key]);

function wait(run) {
  if (!ended(run)) return { done: false, words: `Play all ${run.setting.rounds} rounds.` };
  return aloneOf(run)?.round === run.setting.rounds ? null : { done: false, words: "Those who train alone are not there yet." };
}

const CHALLENGES = {
  together: {
    title: "Stronger together",
    task: "Press play. By how much does the federation beat a hospital that trains alone? Fifteen points will do.",
    start: {},
    fixed: [],
    check(now) {
      const early = wait(now);
      if (early) return early;
      const gain = last(now.rounds).joint - aloneOf(now).joint;
      return { done: gain >= 0.15, words: `The federation reads ${scoreOf(now)}, one hospital alone ${rounded(aloneOf(now).joint)}.` };
    },
  },
  forget: {
    title: "Each succeeds, all fail",
    task: "Make FedAvg fail (45 % or less) though every hospital alone reads its own patients well (80 % on average). No bad hospital allowed.",
    start: {},
    fixed: ["aggregator", "bad", ...LOSSES],
    check(now) {
      const early = wait(now);
      if (early) return early;
      const own = aloneOf(now).own.reduce((a, b) => a + b, 0) / aloneOf(now).own.length;
      return { done: last(now.rounds).joint <= 0.45 && own >= 0.8, words: `Alone, on own patients: ${rounded(own)}. FedAvg on everybody: ${scoreOf(now)}.` };
    },
  },
  rescue: {
    title: "Rescue it",
    task: "Hospitals with hardly any kind in common. Bring the shared model to 60 % without changing hospitals or patients.",
    start: { alpha: 0.02, stain: 0 },
    fixed: [...HOSPITALS, "seed"],
    check(now) {
      const early = wait(now);
      return early ?? { done: last(now.rounds).joint >= 0.6, words: `The shared model reads ${scoreOf(now)}.` };
    },
  },
  shield: {
    title: "One against all",
    task: "One hospital sends the opposite, and the mean is lost. Choose an aggregator that reads 60 % all the same.",
    start: { bad: "opposite" },
    fixed: Object.keys(SETTINGS).filter((name) => name !== "aggregator"),
    check(now) {
      const early = wait(now);
      return early ?? { done: last(now.rounds).joint >= 0.6, words: `Under ${SETTINGS.aggregator.options[now.setting.aggregator]}: ${scoreOf(now)}.` };
    },
  },
  two: {
    title: "A median of two",
    task: "Show that the median of two hospitals is their mean: play the same setting with both aggregators.",
    start: { hospitals: 2, aggregator: "FedMedian", rounds: 5 },
    fixed: ["hospitals"],
    check(now, before) {
      const median = [now, ...before].find((run) => ended(run) && run.setting.aggregator === "FedMedian" && run.setting.hospitals === 2);
      if (!median) return { done: false, words: "Play the median to its last round." };
      const mean = [now, ...before].find((run) => ended(run) && run.setting.aggregator === "EqualWeights" && sameBut(run.setting, median.setting, "aggregator"));
      if (!mean) return { done: false, words: "The median is played. Now the mean in which every hospital counts alike." };
      const same = mean.rounds.every(({ joint }, i) => joint === median.rounds[i].joint);
      return { done: same, words: same ? "All rounds are the same: a median of two protects nobody." : "They differ." };
    },
  },
  find: {
    title: "Find the bad hospital",
    task: "One of the hospitals sends the opposite of what it learned. Which? Play, and look at how far apart the replies lie.",
    start: { bad: "opposite", hidden: "yes", seed: 3, aggregator: "FedMedian" },
    fixed: ["hospitals", "bad", "hidden"],
    guesses: true,
    check(now, before) {
      if (now.rounds.length === 0) return { done: false, words: "Play a round first." };
      if (now.guesses.length === 0) return { done: false, words: "Name the hospital." };
      if (last(now.guesses) !== now.bad.hospital) return { done: false, words: "No, that one is honest. Look at the largest distances." };
      const same = before.filter(({ setting }) => setting.seed === now.setting.seed);
      const wrong = [now, ...same].flatMap(({ guesses }) => guesses).some((guess) => guess !== now.bad.hospital);
      return { done: !wrong, words: wrong ? "That is the one, though not at the first guess: take another seed, and look before you name it." : "That is the one." };
    },
  },
  price: {
    title: "What protection costs",
    task: "Where kinds differ (alpha 0.3) and nobody is bad, a rule that trusts one reply loses: show that Krum is ten points worse than FedAvg.",
    start: { alpha: 0.3, aggregator: "Krum" },
    fixed: ["alpha", "bad", ...LOSSES],
    check(now, before) {
      const runs = [now, ...before].filter((run) => ended(run) && changed("price", run.setting).length === 0);
      for (const krum of runs.filter(({ setting }) => setting.aggregator === "Krum")) {
        const mean = runs.find(({ setting }) => setting.aggregator === "FedAvg" && sameBut(setting, krum.setting, "aggregator"));
        if (mean) {
          const loss = last(mean.rounds).joint - last(krum.rounds).joint;
          return { done: loss >= 0.1, words: `FedAvg reads ${scoreOf(mean)}, Krum ${scoreOf(krum)}.` };
        }
      }
      return { done: false, words: "Play one and the same setting with Krum and with FedAvg." };
    },
  },
  private: {
    title: "What it costs to hide",
    task: "Twenty hospitals. Clip the updates and add noise until epsilon is 8 at most: a bound, and a loose one, on what the model tells of any one of them. What is left of it?",
    start: { hospitals: 20, patients: 8, epochs: 3, participation: 0.25, clip: 0.5 },
    fixed: ["hospitals", "bad"],
    check(now) {
      if (now.epsilon === null || now.epsilon > 8) {
        return { done: false, words: now.epsilon === null ? "Add noise." : `Epsilon ${now.epsilon}: more noise, or fewer rounds.` };
      }
      return ended(now) ? { done: true, words: `Epsilon ${now.epsilon}; the shared model reads ${scoreOf(now)}, where chance reads 25 %. One of twenty does not hide cheaply.` }
        : { done: false, words: `Epsilon ${now.epsilon}. Play all ${now.setting.rounds} rounds.` };
    },
  },
  thrift: {
    title: "Few words",
    task: "Five hospitals, 70 %, and at most 1.2 megabytes sent in all.",
    start: {},
    fixed: HOSPITALS,
    check(now) {
      const early = wait(now);
      if (early) return early;
      const sent = last(now.rounds).bytesSent / 1e6;
      return { done: sent <= 1.2 && last(now.rounds).joint >= 0.7, words: `${sent.toFixed(2)} megabytes for ${scoreOf(now)}.` };
    },
  },
  loser: {
    title: "Who loses?",
    task: "Find a setting in which the shared model reads 60 % of all cells, and yet an honest hospital reads its own patients at least twenty points worse with it than alone. No bad hospital.",
    start: { alpha: 1 },
    fixed: ["bad", ...LOSSES],
    check(now) {
      const early = wait(now);
      if (early) return early;
      const losses = aloneOf(now).own.map((own, h) => own - last(now.rounds).own[h]), most = Math.max(...losses);
      const done = most >= 0.2 && last(now.rounds).joint >= 0.6;
      return { done, words: `Hospital ${hospitalName(losses.indexOf(most))} loses most: ${Math.round(100 * most)} points. The shared model reads ${scoreOf(now)}.` };
    },
  },
  colour: {
    title: "Is it only colour?",
    task: "Find a federation of three hospitals or more, nobody bad, that after ten rounds is no better than a rule that sees only the mean and the spread of the colours.",
    start: {},
    fixed: ["rate", "bad", ...LOSSES],
    check(now) {
      const early = wait(now);
      if (early) return early;
      const fair = now.setting.hospitals >= 3 && now.setting.rounds >= 10;
      return { done: fair && last(now.rounds).joint <= now.colour, words: `The federation reads ${scoreOf(now)}, colours alone ${rounded(now.colour)}.` };
    },
  },
};
