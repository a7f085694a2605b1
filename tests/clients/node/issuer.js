// An OIDC issuer: the certified `oidc-provider`, with clients that get access tokens (JWT) for one
// audience by their credentials. What a client's `roles` claim says comes with the order.
//
// Its order comes as JSON in the first argument; it prints a line when it is ready and runs until it
// is killed. A POST to /rotate makes it sign with a new key.
"use strict";

const { generateKeyPairSync, randomBytes } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { createServer } = require("node:https");
const { pathToFileURL } = require("node:url");

const order = JSON.parse(process.argv[2]);

function newKey() {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), kid: randomBytes(8).toString("hex"), alg: "ES256", use: "sig" };
}

function provider(Provider, keys) {
  return new Provider(order.issuer, {
    jwks: { keys },
    clients: Object.keys(order.clients).map((id) => ({
      client_id: id,
      client_secret: order.clients[id].secret,
      grant_types: ["client_credentials"],
      response_types: [],
      redirect_uris: [],
      id_token_signed_response_alg: "ES256",
      token_endpoint_auth_method: "client_secret_post",
    })),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => order.audience,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, audience) => ({
          scope: "",
          audience,
          accessTokenTTL: order.seconds ?? 300,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "ES256" } },
        }),
      },
    },
    extraTokenClaims: (_, token) => ({ sub: token.clientId, ...order.clients[token.clientId].claims }),
  });
}

async function main() {
  // The library is an ES module, which NODE_PATH does not lead to.
  const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));
  let handle = provider(Provider, [newKey()]).callback();
  createServer(
    { cert: readFileSync(order.certificate), key: readFileSync(order.key) },
    (request, response) => {
      if (request.method === "POST" && request.url === "/rotate") {
        handle = provider(Provider, [newKey()]).callback();
        response.end();
      } else {
        handle(request, response);
      }
    },
  ).listen(order.port, "127.0.0.1", () => console.log("ready"));
}

main();
