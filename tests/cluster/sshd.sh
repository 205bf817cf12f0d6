# shellcheck shell=bash
# The login node: OpenSSH with user keys and user certificates, and many sessions. Sourced.

sshd_up() {
  local directory=$STATE/sshd
  mkdir -p "$directory" /run/sshd
  [ -s "$directory/host_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C host -f "$directory/host_ed25519"
  [ -s "$directory/host_rsa" ] || ssh-keygen -q -t rsa -b 3072 -N '' -C host -f "$directory/host_rsa"
  install -m 644 "$STATE/keys/user-ca.pub" "$directory/user-ca.pub"
  cat >"$directory/sshd.conf" <<C
Port $SSH_PORT
ListenAddress 127.0.0.1
HostKey $directory/host_ed25519
HostKey $directory/host_rsa
PidFile none
UsePAM no
UseDNS no
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
# The state directory may lie under /tmp.
StrictModes no
TrustedUserCAKeys $directory/user-ca.pub
AuthorizedKeysFile $STATE/authorized/%u
MaxAuthTries 6
MaxSessions 1000
MaxStartups 1000:30:2000
LoginGraceTime 20
PrintMotd no
PrintLastLog no
LogLevel VERBOSE
AcceptEnv LANG LC_*
SetEnv SLURM_CONF=$STATE/etc/slurm.conf
Subsystem sftp internal-sftp
C
  /usr/sbin/sshd -t -f "$directory/sshd.conf"
  start sshd /usr/sbin/sshd -D -e -f "$directory/sshd.conf"
  wait_for 10 sshd listens "$SSH_PORT"
  local kind
  for kind in ed25519 rsa; do
    echo "[127.0.0.1]:$SSH_PORT $(cut -d' ' -f1,2 "$directory/host_$kind.pub")"
  done >"$STATE/known_hosts"
  say "sshd on port $SSH_PORT"
}
