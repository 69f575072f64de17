// Package stacktest has the tests of what deploy/ runs: the scripts that set
// Elasticsearch and Kibana up, the proxy, and the files of log shippers. What
// needs no program of ours is checked by scripts/deploy-check.sh.
package stacktest
