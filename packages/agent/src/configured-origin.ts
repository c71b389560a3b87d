// The settings of origins, proxies and credentials in the words of origin/.

import { readFile } from 'node:fs/promises';
import { programEnvironment, type AgentConfig } from './config.ts';
import { AgentError } from './errors.ts';
import type { Logger } from './log.ts';
import type { OriginConfig } from './origin/client.ts';
import { Credentials } from './origin/credentials/credentials.ts';
import { parseProviderConfig } from './origin/credentials/kubelet-config.ts';
import type { CredentialSource } from './origin/credentials/secret.ts';

export function originConfig(config: AgentConfig): OriginConfig {
  const { defaultOrigin, httpProxy, httpsProxy, noProxy } = config;
  return {
    origins: Object.entries(config.origin).map(([name, { urls, realms, ca, clientCert, clientKey, insecure, credentials }]) => ({
      name,
      ...(urls !== undefined && { urls }),
      ...(realms !== undefined && { realms }),
      ...(credentials !== undefined && { credentials }),
      tls: {
        ...(ca !== undefined && { caFile: ca }),
        ...(clientCert !== undefined && { certFile: clientCert }),
        ...(clientKey !== undefined && { keyFile: clientKey }),
        ...(insecure !== undefined && { insecure }),
      },
    })),
    unlisted: config.origins === 'listed' ? 'refuse' : 'public',
    proxy: { ...(httpProxy !== undefined && { http: httpProxy }), ...(httpsProxy !== undefined && { https: httpsProxy }), ...(noProxy !== undefined && { no: noProxy }) },
    ...(defaultOrigin !== undefined && { defaultOrigin }),
  };
}

/** This agent's own credentials. @throws AgentError CONFIG_INVALID where the kubelet's file cannot be used */
export async function openCredentials(config: AgentConfig, log: Logger): Promise<CredentialSource> {
  const { authFiles, credentialProviderConfig: file, credentialProviderBinDir: binDir } = config;
  if ((file === undefined) !== (binDir === undefined)) {
    throw new AgentError('CONFIG_INVALID', 'credentialProviderConfig and credentialProviderBinDir are given together, or not at all');
  }
  const kubelet = file === undefined || binDir === undefined ? undefined : { config: file, binDir };
  if (kubelet !== undefined) {
    try {
      const { skipped } = parseProviderConfig(await readFile(kubelet.config, 'utf8'));
      if (skipped.length > 0) log.warn({ file, skipped }, "credential providers that want a pod's service account are passed over");
    } catch (error) {
      throw new AgentError('CONFIG_INVALID', `credentialProviderConfig: ${file}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }
  return new Credentials({ authFiles, env: programEnvironment(), ...(kubelet !== undefined && { kubelet }) }, () => performance.now());
}
