# shellcheck shell=bash
# The identity provider. Sourced.

idp_up() {
  local url=http://127.0.0.1:$IDP_PORT directory=$STATE/idp
  mkdir -p "$directory" "$STATE/etc"
  cp "$HERE"/idp/{package.json,package-lock.json,idp.mjs} "$directory/"
  if [ ! -d "$directory/node_modules/oidc-provider" ]; then
    (cd "$directory" && npm ci --no-audit --no-fund --silent) >"$STATE/log/npm.log" 2>&1 || die "npm ci failed"
  fi
  start idp env PORT="$IDP_PORT" KEYS="$STATE/keys" node "$directory/idp.mjs"
  wait_for 15 "identity provider" curl -fs "$url/healthz"
  # Slurm reads its RSA keys from a file, when its daemons start.
  curl -fs "$url/jwks" | jq -c '{keys:[.keys[]|select(.kty=="RSA")]}' >"$STATE/etc/jwks.json"
  chmod 644 "$STATE/etc/jwks.json"
  say "identity provider on port $IDP_PORT"
}

# token CLIENT SECRET: an access token by client credentials.
token() {
  curl -fsS "http://127.0.0.1:$IDP_PORT/token" -d grant_type=client_credentials \
    -d "client_id=$1" -d "client_secret=$2" | jq -r .access_token
}
