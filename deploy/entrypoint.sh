#!/usr/bin/env bash
# The image's entrypoint: entrypoint.sh ROLE ARGUMENT…  (surecount/container/roles.py lists the roles)
#
# A server is this shell's child and leads a process group of its own. SIGTERM and SIGINT go on to it. When it
# ends, however it ends, what is left of its group is killed, and this shell ends with its exit code: Python
# workers outlive a TaskManager's SIGKILL, and would go on to hold memory and ports.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$project/.venv/bin/python
# The code that this script stands beside, whatever the caller's folder holds.
export PYTHONPATH=$project${PYTHONPATH:+:$PYTHONPATH}

case ${1-} in
surecount) exec "$python" -P -m surecount.container "$@" ;;
health) exec "$python" -P -m surecount.container.health "${@:2}" ;;
esac

set -m # a child leads a process group
"$python" -P -m surecount.container "$@" &
server=$!
trap 'kill -TERM "$server" 2>/dev/null || true' TERM INT

while kill -0 "$server" 2>/dev/null; do
    wait "$server" || true # comes back at every signal too
done
code=0
wait "$server" || code=$?
kill -KILL -- "-$server" 2>/dev/null || true
exit "$code"
