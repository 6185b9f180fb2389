#!/bin/sh
# Makes the secrets of compose.cluster.yaml: random passwords, each in the file of who gives it and of who asks for it. Never
# overwrites.
#
# Usage: deploy/make-secrets.sh TURN_NAME [FOLDER]       FOLDER: secrets/ beside this script
set -eu

turn=${1:?the name of the TURN server, such as turn.example.org}
folder=${2:-$(dirname "$0")/secrets}

random() {
    od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n'
}

# The folder keeps others out. The files in it are readable, since in their containers they belong to nobody there.
mkdir -m 0700 "$folder"
umask 022
cd "$folder"

relay_password=$(random)
registry_password=$(random)
nats_password=$(random)
turn_secret=$(random)

random >postgres-password

cat >databases.sql <<END
CREATE ROLE relay LOGIN PASSWORD '$relay_password';
CREATE ROLE registry LOGIN PASSWORD '$registry_password';
CREATE DATABASE relay OWNER relay;
CREATE DATABASE registry OWNER registry;
REVOKE CONNECT ON DATABASE relay, registry FROM PUBLIC;
END

cat >relay.json <<END
{
  "database_url": "postgres://relay:$relay_password@postgres:5432/relay",
  "nats_url": "nats://relay:$nats_password@nats:4222",
  "turn": {
    "uris": ["turn:$turn:3478?transport=udp", "turn:$turn:3478?transport=tcp"],
    "secret": "$turn_secret"
  }
}
END

cat >registry.json <<END
{
  "database_url": "postgres://registry:$registry_password@postgres:5432/registry"
}
END

cat >nats.conf <<END
port: 4222
http: "127.0.0.1:8222"
authorization {
  users: [
    {
      user: relay
      password: "$nats_password"
      permissions: { publish: "agentmesh.>", subscribe: "agentmesh.>" }
    }
  ]
}
END

# Without denied-peer-ip anybody reaches this machine's own network through it.
cat >turnserver.conf <<END
use-auth-secret
static-auth-secret=$turn_secret
realm=$turn
listening-port=3478
min-port=49160
max-port=49959
user-quota=12
total-quota=800
no-tls
no-dtls
no-cli
no-multicast-peers
denied-peer-ip=0.0.0.0-0.255.255.255
denied-peer-ip=10.0.0.0-10.255.255.255
denied-peer-ip=100.64.0.0-100.127.255.255
denied-peer-ip=127.0.0.0-127.255.255.255
denied-peer-ip=169.254.0.0-169.254.255.255
denied-peer-ip=172.16.0.0-172.31.255.255
denied-peer-ip=192.168.0.0-192.168.255.255
denied-peer-ip=::1
denied-peer-ip=fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
denied-peer-ip=fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff
log-file=stdout
simple-log
pidfile=/tmp/turnserver.pid
userdb=/tmp/turndb
END

echo "made $(pwd)"
