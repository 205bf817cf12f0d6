# shellcheck shell=bash
# What the cluster is called by: the ports in $STATE/env, a configuration of firecrest-api in
# $STATE/firecrest.yaml. Sourced.

write_env() {
  cat >"$STATE/env" <<C
STATE=$STATE
SSH_PORT=$SSH_PORT
IDP_PORT=$IDP_PORT
REST_PORT=$REST_PORT
SLURM_CONF=$STATE/etc/slurm.conf
BARE_HOST=$(bare_address 1)
BARE_NODE=$(bare_address 2)
C
}

write_config() {
  { auth_config; systems_config; } >"$STATE/firecrest.yaml"
}

auth_config() {
  cat <<C
auth:
  authentication:
    token_url: http://127.0.0.1:$IDP_PORT/token
    public_certs: [http://127.0.0.1:$IDP_PORT/jwks]
    token_endpoint_auth_method: client_secret_post
ssh_credentials:
  type: SSHStaticKeys
  keys:
    fireuser: {private_key: "secret_file:$STATE/keys/fireuser-key"}
    another: {private_key: "secret_file:$STATE/keys/another-key"}
    firesrv:
      private_key: secret_file:$STATE/keys/firesrv-key
      passphrase: secret_file:$STATE/keys/firesrv-passphrase
C
}

systems_config() {
  echo clusters:
  system_config cluster-slurm-ssh ssh
  system_config cluster-slurm-rest rest
  system_config cluster-slurm-hybrid hybrid
}

system_config() { # system_config NAME CONNECTION_MODE
  # shellcheck source=/dev/null
  . "$STATE/slurm-versions"
  cat <<C
  - name: $1
    ssh:
      host: 127.0.0.1
      port: $SSH_PORT
      known_hosts: $STATE/known_hosts
      max_clients: 100
    scheduler:
      type: slurm
      version: "$SLURM_VERSION"
      connection_mode: $2
      api_url: http://127.0.0.1:$REST_PORT
      api_version: $REST_VERSION
      timeout: 10
    service_account: {client_id: firecrest-health-check, secret: 2jIcgRvsAzD13OQe7Jwibv6hMf9CAaWZ}
    probing:
      interval_check: 30
      services: {scheduler: {timeout: 10}, ssh: {timeout: 5}, filesystem: {timeout: 5}}
    file_systems:
      - {path: /home, data_type: users, default_work_dir: true}
      - {path: /scratch, data_type: scratch}
    data_operation:
      max_ops_file_size: 5242880
      datatransfer_jobs_directives: ["#SBATCH --nodes=1", "#SBATCH --time=0-00:15:00", "#SBATCH --partition=xfer"]
      data_transfer:
        service_type: streamer
        host: 127.0.0.1
        port_range: [$((BASE_PORT + 10)), $((BASE_PORT + 19))]
        public_ips: [127.0.0.1]
        wait_timeout: 600
C
}
