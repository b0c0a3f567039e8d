"""Compose files for tests of whole nodes."""

from __future__ import annotations

#: The shape of examples/guestbook, of BusyBox: six services, health checks, conditions, a secret, a named volume, two
#: networks (one without a way out), a published port, replicas.
GUESTBOOK = """
name: shape
x-server: &server
  image: test/busybox
  command: sh -c 'mkdir -p /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www'
  stop_signal: SIGKILL
x-check: &check
  test: wget -qO- http://127.0.0.1/
  interval: 300ms
services:
  proxy:
    <<: *server
    ports: ["18099:80"]
    networks: [front]
    depends_on: {web: {condition: service_healthy}}
  web:
    <<: *server
    deploy: {replicas: 2}
    networks: {front: {}, back: {aliases: [site]}}
    healthcheck: *check
    depends_on: {api: {condition: service_healthy}}
  api:
    <<: *server
    networks: [back]
    secrets: [word]
    healthcheck: *check
    depends_on: {db: {condition: service_healthy}, cache: {condition: service_healthy}}
  worker:
    image: test/busybox
    command: sh -c 'trap "exit 0" TERM; while :; do cat /run/secrets/word > /tmp/word; sleep 0.1; done'
    networks: [back]
    secrets: [{source: word, target: word, mode: 0400}]
    restart: on-failure
    depends_on: {setup: {condition: service_completed_successfully}}
  setup:
    image: test/busybox
    command: sh -c 'echo made > /data/made'
    networks: [back]
    volumes: [data:/data]
    depends_on: {db: {condition: service_healthy}}
  cache:
    <<: *server
    networks: [back]
    healthcheck: *check
  db:
    <<: *server
    networks: [back]
    secrets: [word]
    volumes: [data:/data]
    stop_grace_period: 30s
    healthcheck: *check
networks: {front: {}, back: {internal: true}}
volumes: {data: {}}
secrets: {word: {environment: WORD}}
"""
#: Runs through everything: two printers of numbered lines, one of them behind a published port, with a health check.
STEADY = """
name: steady
services:
  printer:
    image: test/busybox
    command: sh -c 'i=0; while :; do echo line $$i; i=$$((i+1)); usleep 10000; done'
    restart: always
    volumes: [kept:/kept]
    logging: {options: {max-size: 64k, max-file: "200"}}
  server:
    image: test/busybox
    command: sh -c 'mkdir -p /tmp/www; echo steady > /tmp/www/index.html; httpd -p 80 -h /tmp/www;
      i=0; while :; do echo line $$i; i=$$((i+1)); usleep 10000; done'
    restart: unless-stopped
    ports: ["18098:80"]
    healthcheck: {test: "wget -qO- http://127.0.0.1/", interval: 500ms}
volumes: {kept: {}}
"""
