// An OpenID provider (the npm package oidc-provider) with the clients and people of the tests.
// Environment: PORT; KEYS, a directory where the signing keys are made once and kept.
import fs from 'node:fs';
import path from 'node:path';
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider } from 'oidc-provider';

const HOST = '127.0.0.1';
const PORT = Number(process.env.PORT);
const AUDIENCE = 'urn:firecrest:api';
const TOKEN_SECONDS = 3600;

// `user`: whom a token of this client stands for.
const CLIENTS = {
  'firecrest-test-client': { secret: 'wZVHVIEd9dkJDh9hMKc6DTvkqXxnDttk', user: 'fireuser' },
  'firecrest-health-check': { secret: '2jIcgRvsAzD13OQe7Jwibv6hMf9CAaWZ', user: 'firesrv' },
  'firecrest-other-client': { secret: 'other-client-secret-000000000000', user: 'another' },
  'firecrest-nokey-client': { secret: 'nokey-client-secret-000000000000', user: 'nosshkeys' },
  'firecrest-short-client': { secret: 'short-client-secret-000000000000', user: 'fireuser', seconds: 5 },
  'firecrest-web-ui': { secret: 'web-ui-secret-00000000000000000', redirect: 'http://127.0.0.1:9999/cb' },
};
const PEOPLE = {
  fireuser: { password: 'password', email: 'fireuser@example.org', given_name: 'Fire', family_name: 'User' },
  another: { password: 'password', email: 'another@example.org', given_name: 'An', family_name: 'Other' },
};

function signingKeys() {
  const file = path.join(process.env.KEYS, 'idp-private-jwks.json');
  if (!fs.existsSync(file)) {
    const make = (type, options, more) =>
      ({ ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), use: 'sig', ...more });
    const keys = [
      make('rsa', { modulusLength: 2048 }, { kid: `rsa-${randomUUID()}`, alg: 'RS256' }),
      make('ec', { namedCurve: 'P-256' }, { kid: `ec-${randomUUID()}`, alg: 'ES256' }),
    ];
    fs.writeFileSync(file, JSON.stringify({ keys }), { mode: 0o600 });
  }
  return JSON.parse(fs.readFileSync(file));
}

const person = (id) => {
  const { email, given_name, family_name } = PEOPLE[id];
  return { preferred_username: id, email, email_verified: true, given_name, family_name };
};
// Slurm reads `sun` or `username`.
const asUser = (name) => ({ preferred_username: name, username: name, sun: name });

const provider = new Provider(`http://${HOST}:${PORT}`, {
  clients: Object.entries(CLIENTS).map(([id, { secret, redirect }]) => ({
    client_id: id,
    client_secret: secret,
    grant_types: [redirect ? 'authorization_code' : 'client_credentials'],
    response_types: redirect ? ['code'] : [],
    redirect_uris: redirect ? [redirect] : [],
    token_endpoint_auth_method: 'client_secret_post',
  })),
  jwks: signingKeys(),
  clientAuthMethods: ['client_secret_basic', 'client_secret_post'],
  ttl: {
    ClientCredentials: (_ctx, _token, client) => CLIENTS[client.clientId].seconds || TOKEN_SECONDS,
    AccessToken: TOKEN_SECONDS, IdToken: TOKEN_SECONDS, AuthorizationCode: 60,
    Interaction: 600, Session: 3600, Grant: 3600,
  },
  scopes: ['openid', 'profile', 'email', 'firecrest'],
  claims: {
    openid: ['sub'],
    profile: ['preferred_username', 'given_name', 'family_name'],
    email: ['email', 'email_verified'],
  },
  conformIdTokenClaims: false,
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    // Access tokens become JWTs by belonging to a resource.
    resourceIndicators: {
      enabled: true,
      defaultResource: () => AUDIENCE,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'openid profile email firecrest', audience: AUDIENCE,
        accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  // Slurm takes the header type "JWT" only, which Keycloak sends too.
  formats: { customizers: { jwt: (_ctx, _token, jwt) => { jwt.header = { ...jwt.header, typ: 'JWT' }; } } },
  extraTokenClaims: (_ctx, token) => (token.kind === 'ClientCredentials'
    ? { ...asUser(CLIENTS[token.clientId].user), client_id: token.clientId }
    : { ...asUser(token.accountId), ...person(token.accountId) }),
  findAccount: (_ctx, id) =>
    (PEOPLE[id] ? { accountId: id, claims: () => ({ sub: id, ...person(id) }) } : undefined),
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  cookies: { keys: ['only-for-tests'] },
  pkce: { required: () => false },
  renderError: (ctx, out) => { ctx.type = 'json'; ctx.body = out; },
});

// The login page: POST login=NAME&password=WORD logs in and consents at once.
provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  const details = await provider.interactionDetails(ctx.req, ctx.res);
  if (ctx.method === 'GET') {
    ctx.type = 'html';
    ctx.body = '<form method="post"><input name="login"><input name="password" type="password"><button>Log in</button></form>';
    return undefined;
  }
  let body = '';
  for await (const chunk of ctx.req) body += chunk;
  const form = new URLSearchParams(body);
  const accountId = details.session?.accountId || form.get('login');
  if (!details.session && PEOPLE[accountId]?.password !== form.get('password')) {
    ctx.status = 401;
    ctx.body = 'wrong password';
    return undefined;
  }
  const grant = new provider.Grant({ accountId, clientId: details.params.client_id });
  grant.addOIDCScope('openid profile email');
  grant.addResourceScope(AUDIENCE, 'openid profile email firecrest');
  const result = { login: { accountId }, consent: { grantId: await grant.save() } };
  await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: true });
  ctx.respond = false;
  return undefined;
});

// Keycloak's paths too, so that configurations written for it work.
const KEYCLOAK = { token: '/token', certs: '/jwks', auth: '/auth', userinfo: '/me' };
const answer = provider.callback();
createServer((request, response) => {
  const [, name, query] = request.url.match(/^\/auth\/realms\/kcrealm\/protocol\/openid-connect\/(\w+)(\?.*)?$/) || [];
  if (KEYCLOAK[name]) {
    request.url = KEYCLOAK[name] + (query || '');
    request.originalUrl = request.url;
  }
  if (request.url === '/healthz') { response.end('ok'); return; }
  answer(request, response);
}).listen(PORT, HOST);
