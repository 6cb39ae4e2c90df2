// Requests per second, from successive counts.

export const LENGTH = 120; // samples that a sparkline shows: a minute
const SMOOTH_S = 2; // a figure that people read must not flicker
const NS = 1e9;

/** One release's traffic, by variant. */
export class Rates {
  constructor() {
    this.samples = []; // {timeNs, requests: {stable, candidate}}
    this.courses = new Map();
  }

  /** Count `release` at `timeNs`. */
  add(timeNs, release) {
    const requests = Object.fromEntries(release.versions.map((version) => [version.variant, version]));
    if (timeNs < this.samples.at(-1)?.timeNs) this.samples = []; // the gateway's clock has been set back
    const last = this.samples.at(-1);
    if (last && (timeNs - last.timeNs) / NS < 0.2) return; // an event between two samples
    if (last && Object.entries(requests).some(([variant, v]) => last.requests[variant]?.version !== v.version)) {
      this.samples = []; // promoted, or another candidate
      this.courses.clear();
    }
    this.samples.push({ timeNs, requests });
    if (this.samples.length > LENGTH) this.samples.shift();
    for (const variant of Object.keys(requests)) {
      const course = this.courses.get(variant) ?? [];
      const rate = this.of(variant);
      if (rate !== null) course.push(rate);
      if (course.length > LENGTH) course.shift();
      this.courses.set(variant, course);
    }
  }

  /** Requests per second over the last two seconds; null where that is not known yet. */
  of(variant) {
    const now = this.samples.at(-1);
    const before = this.samples.findLast((sample) => (now.timeNs - sample.timeNs) / NS >= SMOOTH_S) ?? this.samples[0];
    if (!now || before === now || !now.requests[variant] || !before.requests[variant]) return null;
    const counted = now.requests[variant].requests - before.requests[variant].requests;
    return Math.max(0, counted) / ((now.timeNs - before.timeNs) / NS);
  }

  course(variant) {
    return this.courses.get(variant) ?? [];
  }

  /** The candidate's share of the traffic in percent; null where there is none. */
  share() {
    const stable = this.of("stable");
    const candidate = this.of("candidate");
    return stable === null || candidate === null || stable + candidate === 0
      ? null
      : (100 * candidate) / (stable + candidate);
  }
}
