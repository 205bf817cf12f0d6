# shellcheck shell=bash
# Unix users and their keys. Sourced. The ids are fixed: recorded answers hold them.

USERS=(fireuser firesrv another)

make_users() {
  getent group users >/dev/null || groupadd -g 100 users
  getent group service-accounts >/dev/null || groupadd -g 2001 service-accounts
  getent group slurmapi >/dev/null || groupadd -r -g 2002 slurmapi
  getent passwd slurmapi >/dev/null ||
    useradd -r -u 2002 -g slurmapi -d /nonexistent -s /usr/sbin/nologin slurmapi
  make_user fireuser 2101 users
  make_user firesrv 2102 service-accounts
  make_user another 2103 users
  install -d -m 1777 /scratch
  local user
  for user in "${USERS[@]}"; do install -d -m 700 -o "$user" -g "$(id -gn "$user")" "/scratch/$user"; done
}

make_user() { # make_user NAME UID GROUP
  getent passwd "$1" >/dev/null ||
    useradd -m -d "/home/$1" -u "$2" -s /bin/bash --no-user-group -g "$3" "$1"
  # "*": no password, and yet not "locked", which sshd without PAM refuses.
  usermod -p '*' "$1"
  # Recorded answers are of homes that nobody else reads; what useradd makes depends on login.defs.
  chmod 700 "/home/$1"
}

make_keys() {
  local keys=$STATE/keys user
  [ -s "$keys/firesrv-passphrase" ] || printf 'firesrv-passphrase-1234' >"$keys/firesrv-passphrase"
  for user in fireuser another; do new_key "$user" ''; done
  new_key firesrv "$(cat "$keys/firesrv-passphrase")"
  # Certificates of this authority are accepted; these keys are in no authorized_keys.
  [ -s "$keys/user-ca" ] || ssh-keygen -q -t ed25519 -N '' -C user-ca -f "$keys/user-ca"
  for user in fireuser another; do
    [ -s "$keys/$user-certkey" ] || ssh-keygen -q -t ed25519 -N '' -C "$user-cert" -f "$keys/$user-certkey"
    ssh-keygen -q -s "$keys/user-ca" -I "$user" -n "$user" -V -5m:+30d "$keys/$user-certkey.pub"
  done
  # Kept here rather than in the homes, which instances share.
  for user in "${USERS[@]}"; do install -D -m 644 "$keys/$user-key.pub" "$STATE/authorized/$user"; done
}

new_key() { # new_key USER PASSPHRASE
  [ -s "$STATE/keys/$1-key" ] || ssh-keygen -q -t ed25519 -N "$2" -C "$1@cluster" -f "$STATE/keys/$1-key"
}
