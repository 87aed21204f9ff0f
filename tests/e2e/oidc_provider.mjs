// An OpenID provider on loopback: node oidc_provider.mjs REDIRECT_URI prints its issuer and serves until it is ended. It has one client,
// "neutrino" with the secret "open-sesame", and whoever types a name at its login page is that: ada@example.org, verified; a name with
// "unverified" in it has an email that is not. As real providers do, it gives the email at its userinfo endpoint and not in the ID token,
// and insists on PKCE.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const [redirectUri] = process.argv.slice(2);
const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'neutrino', client_secret: 'open-sesame', redirect_uris: [redirectUri],
    grant_types: ['authorization_code'], response_types: ['code'],
  }],
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.org`, email_verified: !id.includes('unverified') }),
  }),
});
server.on('request', provider.callback());
console.log(issuer);
