// Package dashtest asks every query of every dashboard of a real Prometheus that
// scrapes a real server, and of the server's own API, and compares the answers
// with what a workload did. It has tests alone.
package dashtest
