"use strict";

// Challenges check themselves. `start` is the setting with which one opens, `fixed` names what must stay so, and
// `check(now, before)` returns whether it is done, and a sentence on how far it is. `now` and `before` are runs:
// { setting, rounds (of the federation), rivals (by round), bad, epsilon, guess }.

const last = (list) => list[list.length - 1];
const ended = ({ setting, rounds }) => rounds.length >= setting.rounds;
const scoreOf = (run) => rounded(last(run.rounds).joint);

// How hospitals alone do in the last round that both they and the federation have played, and which round that is;
// null before there is one. They may lag behind, for they train in a worker of their own.
function aloneOf(run) {
  const known = last(run.rivals.filter(({ round, alone }) => alone !== null && round <= run.rounds.length));
  return known === undefined ? null : { round: known.round, ...known.alone };
}

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
    fixed: ["aggregator", "bad"],
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
    fixed: ["hospitals", "patients", "alpha", "quantity", "stain", "bad"],
    check(now) {
      const early = wait(now);
      return early ?? { done: last(now.rounds).joint >= 0.6, words: `The shared model reads ${scoreOf(now)}.` };
    },
  },
  shield: {
    title: "One against all",
    task: "One hospital sends the opposite, and the mean is lost. Choose an aggregator that reads 60 % all the same.",
    start: { bad: "opposite" },
    fixed: ["hospitals", "patients", "bad"],
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
    fixed: ["bad", "hidden"],
    guesses: true,
    check(now) {
      if (now.rounds.length === 0) return { done: false, words: "Play a round first." };
      if (now.guess === null) return { done: false, words: "Name the hospital." };
      const done = now.guess === now.bad.hospital;
      return { done, words: done ? "That is the one." : "No, that one is honest. Look at the largest distances." };
    },
  },
  price: {
    title: "What protection costs",
    task: "Where kinds differ (alpha 0.3) and nobody is bad, a rule that trusts one reply loses: show that Krum is ten points worse than FedAvg.",
    start: { alpha: 0.3, aggregator: "Krum" },
    fixed: ["bad"],
    check(now, before) {
      const runs = [now, ...before].filter(ended);
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
    fixed: ["hospitals", "bad"],
    check(now) {
      const early = wait(now);
      if (early) return early;
      const sent = last(now.rounds).bytesSent / 1e6;
      return { done: sent <= 1.2 && last(now.rounds).joint >= 0.7, words: `${sent.toFixed(2)} megabytes for ${scoreOf(now)}.` };
    },
  },
  loser: {
    title: "Who loses?",
    task: "Find a setting in which an honest hospital reads its own patients at least ten points worse with the shared model than alone. No bad hospital.",
    start: { alpha: 1 },
    fixed: ["bad"],
    check(now) {
      const early = wait(now);
      if (early) return early;
      const losses = aloneOf(now).own.map((own, h) => own - last(now.rounds).own[h]), most = Math.max(...losses);
      return { done: most >= 0.1, words: `Hospital ${hospitalName(losses.indexOf(most))} loses most: ${Math.round(100 * most)} points.` };
    },
  },
  colour: {
    title: "Is it only colour?",
    task: "Find a federation of three hospitals or more, nobody bad, that after ten rounds is no better than a rule that sees only mean colours.",
    start: {},
    fixed: ["bad"],
    check(now) {
      const early = wait(now);
      if (early) return early;
      const fair = now.setting.hospitals >= 3 && now.setting.rounds >= 10;
      return { done: fair && last(now.rounds).joint <= now.colour, words: `The federation reads ${scoreOf(now)}, colours alone ${rounded(now.colour)}.` };
    },
  },
};
