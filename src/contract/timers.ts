/** Seconds (24 days). setTimeout() fires at once beyond 2^31-1 ms. */
export const LONGEST_TIMER = 2_147_483;
