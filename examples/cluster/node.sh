#!/bin/sh
# The first process of each node of docker-compose.test.yml: a node of pycompose, which makes the cluster or joins it.
# ROLE: first, manager or worker. The first manager leaves tokens for the others in /join.
set -e

python3 -m pycompose.worker.node &
node=$!
trap 'kill -TERM $node' TERM INT
until pycompose node ls >/dev/null 2>&1 || [ -e /var/lib/pycompose/node/node.json ]; do
    kill -0 $node
    sleep 0.2
done

if [ ! -e /var/lib/pycompose/node/node.json ]; then
    address=$(hostname -i | cut -d' ' -f1)
    if [ "$ROLE" = first ]; then
        pycompose cluster init --advertise-addr "$address" --name test
        for role in worker manager; do
            until pycompose cluster token -q $role >/join/$role.new 2>/dev/null; do sleep 0.5; done
            mv /join/$role.new /join/$role
        done
    else
        until [ -s "/join/$ROLE" ]; do sleep 0.2; done
        until pycompose node join "$(cat "/join/$ROLE")"; do sleep 1; done
    fi
fi
[ "$ROLE" = worker ] || until pycompose node ls >/dev/null 2>&1; do sleep 0.5; done
touch /run/pycompose/joined
wait $node || wait $node
