#!/bin/sh
# Does what `just update` does, without just and without the service's environment: `sh core/update.sh`.
# So a Justfile or dependencies that cannot be read, or that conflict with core/, stop no update.
set -eu
unset CDPATH
cd "$(dirname "$0")/.."
exec uvx --quiet --with 'copier>=9.19,<10' python -B -m core.update "$@"
