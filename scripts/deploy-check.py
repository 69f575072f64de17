"""Reads every JSON, NDJSON and YAML file in deploy/, and follows what refers to what.

    python3 scripts/deploy-check.py ROOT

Saved objects of Kibana must find what they refer to, and their fields in the index
template; Grafana's data sources those that they link to. scripts/deploy-check.sh
calls it.
"""

import json
import pathlib
import re
import sys

import yaml

problems = []
root = pathlib.Path(sys.argv[1])


class Loader(yaml.SafeLoader):
    """YAML with the tags of Compose."""


for tag in ("!override", "!reset"):
    Loader.add_constructor(tag, lambda loader, node: None)


def read(path):
    text = path.read_text()
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix == ".ndjson":
        return [json.loads(line) for line in text.splitlines()]
    return list(yaml.load_all(text, Loader=Loader))


files = {}
for path in sorted((root / "deploy").rglob("*")):
    if {"data", "secrets", "certs", "generated"} & set(path.parts) or path.suffix not in (".json", ".ndjson", ".yaml", ".yml"):
        continue
    try:
        files[path.relative_to(root).as_posix()] = read(path)
    except ValueError as e:
        problems.append(f"{path}: {e}")
    except yaml.YAMLError as e:
        problems.append(f"{path}: {e}")


def values(node, key):
    """Every value of key, at any depth."""
    if isinstance(node, dict):
        for k, v in node.items():
            if k == key:
                yield v
            yield from values(v, key)
    elif isinstance(node, list):
        for v in node:
            yield from values(v, key)


# Kibana.
objects = files["deploy/logs/kibana.ndjson"]
known = {(o["type"], o["id"]) for o in objects}
fields = set(files["deploy/logs/elasticsearch/index-template.json"]["template"]["mappings"]["properties"])
if fields != set(files["deploy/logs/opensearch/index-template.json"]["template"]["mappings"]["properties"]):
    problems.append("the index templates of Elasticsearch and OpenSearch have other fields")
if len(known) != len(objects):
    problems.append("kibana.ndjson: two objects have one id")
for o in objects:
    name = f"kibana.ndjson: {o['type']} {o['id']}"
    for r in o["references"]:
        if (r["type"], r["id"]) not in known:
            problems.append(f"{name}: refers to {r['type']} {r['id']}, which is not there")
    a = o["attributes"]
    used = set(a.get("columns", []))
    inner = [json.loads(a[k]) for k in ("visState", "panelsJSON") if k in a]
    inner += [json.loads(m["searchSourceJSON"]) for m in [a.get("kibanaSavedObjectMeta")] if m]
    used |= {f for part in inner for f in values(part, "field") if isinstance(f, str)}
    for query in values(inner, "query"):
        if isinstance(query, str):
            used |= set(re.findall(r"([a-z_@.]+):", query))
    for panel in (p for part in inner if isinstance(part, list) for p in part):
        if not any(r["name"] == f"{panel['panelIndex']}:{panel['panelRefName']}" for r in o["references"]):
            problems.append(f"{name}: panel {panel['panelIndex']} refers to nothing")
    for field in sorted(used - fields):
        problems.append(f"{name}: field {field} is not in the index template")

# Grafana: each set of data sources that is mounted together.
folder = "deploy/grafana/provisioning/datasources/"
for main in ("light.yaml", "observability.yaml", "hardened.yaml"):
    for more in ("nologs.yaml", "logs.yaml"):
        if main == "hardened.yaml" and more == "logs.yaml":
            continue
        sets = files[folder + main] + files[folder + more]
        uids = [s["uid"] for d in sets for s in d.get("datasources") or []]
        if len(set(uids)) != len(uids):
            problems.append(f"{main} with {more}: two data sources have one uid")
        wanted = set(values(sets, "datasourceUid")) | set(values(sets, "alertmanagerUid"))
        for uid in sorted(wanted - set(uids)):
            problems.append(f"{main} with {more}: links to data source {uid}, which is not there")
        if sum(1 for d in sets for s in d.get("datasources") or [] if s.get("isDefault")) != 1:
            problems.append(f"{main} with {more}: not one default data source")
        if main == "hardened.yaml":
            problems += [f"{main}: {u} is not https" for u in values(sets, "url") if u.startswith("http:")]

for p in problems:
    print("deploy-check:", p, file=sys.stderr)
sys.exit(bool(problems))
