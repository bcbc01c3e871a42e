# Makes the cluster of databases where there is none yet, then becomes the server. It runs in any image with PostgreSQL.
set -eu
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin) # where Debian keeps them
data=/data/pgdata
if [ ! -d $data ]; then
  rm -rf $data.new # of a first start that was cut short
  initdb --pgdata=$data.new --username=postgres --auth-local=trust --auth-host=reject --encoding=UTF8 --locale=C.UTF-8
  # Only this container has the socket; the network's side is polyshare's own user and database, by password.
  echo "host polyshare polyshare all scram-sha-256" >>$data.new/pg_hba.conf
  sed -i '/^host .*reject$/d' $data.new/pg_hba.conf
  { printf "CREATE ROLE polyshare LOGIN PASSWORD '%s'\n" "$(cat /secrets/password)"; echo "CREATE DATABASE polyshare OWNER polyshare"; } |
    postgres --single -D $data.new postgres >/dev/null
  mv $data.new $data
fi
exec postgres -D $data -c unix_socket_directories=/tmp -c listen_addresses='*' \
  -c max_connections="$CONNECTIONS" -c shared_buffers="$SHARED_BUFFERS"
