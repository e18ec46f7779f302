package ledger

// The kinds of marks.
const markEntries = "entries" // n: the highest number that was removed
