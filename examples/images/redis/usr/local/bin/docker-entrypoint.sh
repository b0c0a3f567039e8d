#!/bin/sh
# redis-server alone, or with flags: for other containers to reach, hence without its protected mode.
set -e
case "$1" in
    -*) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ]; then
    set -- "$@" --protected-mode no
fi
exec "$@"
