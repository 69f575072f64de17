// Package ledgerreader has verify.py, which checks an audit ledger and was
// written from docs/ledger-format.md alone, in another language and without any
// code of ours. Its test is the document's: both must come to one verdict.
package ledgerreader
