# shellcheck shell=bash
# Slurm on one host: munge, MariaDB, slurmdbd, slurmctld, three slurmd, slurmrestd. Sourced.

NODES=3
database() { mariadb --no-defaults -h127.0.0.1 -P"$DB_PORT" -uroot "$@"; }

# The release, and the newest version of its REST service that the API knows, for config.sh too.
slurm_versions() {
  local release rest
  release=$(slurmctld -V | sed -E 's/.* ([0-9]+\.[0-9]+).*/\1/')
  case $release in 22.*) rest=0.0.38 ;; *) rest=0.0.42 ;; esac
  echo "SLURM_VERSION=$release REST_VERSION=$rest" >"$STATE/slurm-versions"
}
before_cgroups() { grep -q SLURM_VERSION=22 "$STATE/slurm-versions"; }

slurm_up() {
  export SLURM_CONF=$STATE/etc/slurm.conf
  slurm_versions
  slurm_configure
  munge_up
  database_up
  slurmdbd_up
  accounts
  start slurmctld setpriv --reuid slurm --regid slurm --init-groups slurmctld -D
  wait_for 30 slurmctld sh -c 'scontrol ping | grep -q "is UP"'
  local node
  for node in nid001 nid002 nid003; do
    mkdir -p "$STATE/slurmd/$node"
    start "slurmd-$node" slurmd -D -N "$node"
  done
  slurmrestd_up
  wait_for 30 "idle nodes" idle_nodes
  reservation
  say "Slurm: $(sinfo -h -p normal -o '%D nodes %t' | tr '\n' ' ')"
}

# bare_address 1|2: the host's and the node's end of their line. Each instance has its own, in the
# range that is set aside for tests of networks (RFC 2544).
bare_address() {
  local instance=$(((BASE_PORT - 20000) / 20))
  echo "198.18.$((instance / 64)).$((instance % 64 * 4 + $1))"
}

idle_nodes() { [ "$(sinfo -h -N -p normal -t idle,mixed,alloc -o %N | sort -u | wc -l)" -ge "$NODES" ]; }

slurm_configure() {
  mkdir -p "$STATE"/{etc,run,mysql,slurmctld,slurmd,munge}
  [ -s "$STATE/etc/jwks.json" ] || die "start the identity provider first"
  [ -s "$STATE/etc/jwt_hs256.key" ] || head -c 32 /dev/urandom >"$STATE/etc/jwt_hs256.key"
  chown slurm: "$STATE/etc/jwt_hs256.key"
  chmod 600 "$STATE/etc/jwt_hs256.key"
  slurm_conf >"$STATE/etc/slurm.conf"
  # slurmrestd has no identity of its own: it speaks with its caller's token.
  sed -e 's#^AuthType=.*#AuthType=auth/jwt#' -e '/^AuthInfo=/d' "$STATE/etc/slurm.conf" >"$STATE/etc/slurmrestd.conf"
  before_cgroups || echo CgroupPlugin=disabled >"$STATE/etc/cgroup.conf"
  slurmdbd_conf >"$STATE/etc/slurmdbd.conf"
  chown slurm: "$STATE/etc/slurmdbd.conf" "$STATE/run" "$STATE/slurmctld"
  chmod 600 "$STATE/etc/slurmdbd.conf"
  local daemon
  for daemon in slurmdbd slurmctld; do touch "$STATE/log/$daemon.log"; chown slurm: "$STATE/log/$daemon.log"; done
}

slurm_conf() {
  local host node munge=$STATE/run/munge/munge.sock
  host=$(hostname -s)
  cat <<C
ClusterName=cluster
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$CTLD_PORT
SlurmUser=slurm
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$munge
CredType=cred/munge
AuthAltTypes=auth/jwt
AuthAltParameters=jwks=$STATE/etc/jwks.json,jwt_key=$STATE/etc/jwt_hs256.key
StateSaveLocation=$STATE/slurmctld
SlurmdSpoolDir=$STATE/slurmd/%n
SlurmctldPidFile=$STATE/run/slurmctld.pid
SlurmdPidFile=$STATE/run/slurmd-%n.pid
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/slurmd-%n.log
MailProg=/bin/true
# No cgroups anywhere.
ProctrackType=proctrack/linuxproc
$(! before_cgroups || printf '%s\n' TaskPlugin=task/none JobAcctGatherType=jobacct_gather/none SwitchType=switch/none MpiDefault=none)
# Several slurmd on one host, with more CPUs than it has.
SlurmdParameters=config_overrides
ReturnToService=2
# Jobs start at once.
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2,bf_continue
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MinJobAge=300
KillWait=2
InactiveLimit=0
SlurmdTimeout=300
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$DBD_PORT
# The connection to slurmdbd ignores AuthInfo and takes this for the socket.
AccountingStoragePass=$munge
AccountingStoreFlags=job_comment,job_env,job_script
AccountingStorageEnforce=associations,limits,qos
# No id of a job is a number that means something else in an answer.
FirstJobId=10001
C
  for node in 1 2 3; do
    echo "NodeName=nid00$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((SLURMD_PORT + node - 1)) CPUs=8 RealMemory=8000 Feature=mc,f7t State=UNKNOWN"
  done
  # Nobody sees it until a test has started it: bare-node.sh.
  echo "NodeName=bare NodeHostname=bare NodeAddr=$(bare_address 2) Port=$((SLURMD_PORT + NODES)) CPUs=8 RealMemory=8000 State=FUTURE"
  cat <<C
PartitionName=normal Default=YES Nodes=nid[001-003] OverSubscribe=YES MaxTime=1-00:00:00 DefaultTime=01:00:00 State=UP
PartitionName=xfer   Default=NO  Nodes=nid001 OverSubscribe=FORCE:16 MaxTime=1-00:00:00 DefaultTime=01:00:00 State=UP
PartitionName=hidden Default=NO  Nodes=nid[001-003] OverSubscribe=YES Hidden=YES MaxTime=1-00:00:00 DefaultTime=01:00:00 State=UP
C
}

slurmdbd_conf() {
  cat <<C
AuthType=auth/munge
AuthInfo=socket=$STATE/run/munge/munge.sock
AuthAltTypes=auth/jwt
AuthAltParameters=jwks=$STATE/etc/jwks.json,jwt_key=$STATE/etc/jwt_hs256.key
DbdAddr=127.0.0.1
DbdHost=$(hostname -s)
DbdPort=$DBD_PORT
SlurmUser=slurm
LogFile=$STATE/log/slurmdbd.log
PidFile=$STATE/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$DB_PORT
StorageUser=slurmdb
StoragePass=slurmdbpass
StorageLoc=slurmdb
C
}

munge_up() {
  alive munged && return
  local directory=$STATE/munge
  [ -s "$directory/munge.key" ] || head -c 1024 /dev/urandom >"$directory/munge.key"
  chown -R munge: "$directory"
  chmod 700 "$directory"; chmod 400 "$directory/munge.key"
  install -d -m 755 -o munge -g munge "$STATE/run/munge"
  rm -f "$STATE"/run/munge/munge.sock*
  start munged setpriv --reuid munge --regid munge --clear-groups munged -F --force --num-threads=4 \
    --key-file "$directory/munge.key" --socket "$STATE/run/munge/munge.sock" \
    --pid-file "$directory/munged.pid" --seed-file "$directory/seed" --log-file "$directory/munged.log"
  wait_for 20 munge test -S "$STATE/run/munge/munge.sock"
}

database_up() {
  if [ ! -d "$STATE/mysql/mysql" ]; then
    chown mysql: "$STATE/mysql"
    mariadb-install-db --no-defaults --user=mysql --datadir="$STATE/mysql" --skip-test-db \
      --auth-root-authentication-method=normal >"$STATE/log/mariadb-install.log" 2>&1 || die mariadb-install-db
  fi
  start mariadbd mariadbd --no-defaults --user=mysql --datadir="$STATE/mysql" --port="$DB_PORT" \
    --bind-address=127.0.0.1 --socket="$STATE/mysql/mysql.sock" --pid-file="$STATE/mysql/mysqld.pid" \
    --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0 --innodb-flush-method=nosync \
    --sync-binlog=0 --skip-log-bin --innodb-lock-wait-timeout=900 --skip-name-resolve
  wait_for 30 MariaDB database -e 'select 1'
  database -e "CREATE DATABASE IF NOT EXISTS slurmdb;
    CREATE USER IF NOT EXISTS 'slurmdb'@'127.0.0.1' IDENTIFIED BY 'slurmdbpass';
    GRANT ALL ON slurmdb.* TO 'slurmdb'@'127.0.0.1';"
}

slurmdbd_up() {
  start slurmdbd setpriv --reuid slurm --regid slurm --init-groups slurmdbd -D
  wait_for 40 slurmdbd listens "$DBD_PORT"
  wait_for 40 sacctmgr sacctmgr -n show cluster
}

# All of it before slurmctld starts, which then reads it at once.
accounts() {
  sacctmgr -nP show assoc user=fireuser format=account | grep -q users && return
  accounts_made >"$STATE/log/sacctmgr.log"
}

accounts_made() {
  sacctmgr -iQ add cluster cluster || true
  sacctmgr -iQ add account staff,users,service-accounts,full cluster=cluster Description=test Organization=test
  sacctmgr -iQ add user fireuser account=staff,users DefaultAccount=users
  sacctmgr -iQ add user firesrv account=staff,service-accounts DefaultAccount=service-accounts
  sacctmgr -iQ add user another account=users DefaultAccount=users
  # Its limit refuses every job.
  sacctmgr -iQ add user another account=full
  sacctmgr -iQ modify account full set MaxSubmitJobs=0
  sacctmgr -iQ add user root account=root AdminLevel=Admin || true
}

slurmrestd_up() {
  local plugins=(-s slurmctld,slurmdbd -d v0.0.40,v0.0.41,v0.0.42)
  ! before_cgroups || plugins=(-s openapi/v0.0.36,openapi/dbv0.0.36,openapi/v0.0.37,openapi/dbv0.0.37,openapi/v0.0.38,openapi/dbv0.0.38)
  SLURM_CONF=$STATE/etc/slurmrestd.conf SLURM_JWT=daemon SLURMRESTD_SECURITY=disable_user_check \
    start slurmrestd setpriv --reuid slurmapi --regid slurmapi --init-groups \
    slurmrestd -a rest_auth/jwt "${plugins[@]}" "127.0.0.1:$REST_PORT"
  wait_for 20 slurmrestd listens "$REST_PORT"
}

# Far away, so that it holds no job back.
reservation() {
  scontrol show reservation maintenance >/dev/null 2>&1 && return
  scontrol create reservation ReservationName=maintenance StartTime=now+300days Duration=60 \
    Users=fireuser Nodes=nid003 >/dev/null
}

slurm_down() {
  export SLURM_CONF=$STATE/etc/slurm.conf
  local user node
  if alive slurmctld; then for user in "${USERS[@]}"; do scancel -u "$user" || true; done; fi
  stop slurmrestd 3
  for node in nid001 nid002 nid003; do stop "slurmd-$node" 5; done
  stop slurmctld 15; stop slurmdbd 10; stop mariadbd 15; stop munged 5
}
