// Which way a connection goes: what its statistics say of the pair of candidates in use.

/** Whether either end is a relay's; `undefined` where there is no such pair yet, or the browser does not say. */
export async function goesThroughRelay(connection: RTCPeerConnection): Promise<boolean | undefined> {
  const stats = new Map<string, RTCStats>();
  for (const [id, one] of await connection.getStats()) stats.set(id, one as RTCStats);
  const pair = selectedPair(stats);
  if (pair === undefined) return undefined;
  const kinds = [pair.localCandidateId, pair.remoteCandidateId].map((id) => (stats.get(id) as CandidateStats | undefined)?.candidateType);
  if (kinds.includes('relay')) return true;
  return kinds.includes(undefined) ? undefined : false;
}

/** Not in TypeScript's own types. */
interface CandidateStats extends RTCStats {
  candidateType?: RTCIceCandidateType;
}

/** Firefox marks the pair itself, and not in the transport. */
interface PairStats extends RTCIceCandidatePairStats {
  selected?: boolean;
}

function selectedPair(stats: ReadonlyMap<string, RTCStats>): PairStats | undefined {
  for (const one of stats.values()) {
    const id = one.type === 'transport' ? (one as RTCTransportStats).selectedCandidatePairId : undefined;
    if (id !== undefined) return stats.get(id) as PairStats | undefined;
  }
  for (const one of stats.values()) {
    if (one.type === 'candidate-pair' && (one as PairStats).selected === true) return one as PairStats;
  }
  return undefined;
}
