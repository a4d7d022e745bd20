// RTC Battery: a SQL database in the browser that everyone who shares a link shares.

export { RTCBattery } from './battery.js';
export type { RTCBatteryConfig } from './config.js';
export { deleteDatabase } from './delete-database.js';
export type { Durability } from './durability.js';
export { DatabaseBusy, RTCBatteryError, type RTCBatteryErrorCode, SqlError } from './errors.js';
export { ANOTHER_TAB, SET_ASIDE, type Conflict, type RTCBatteryEvents } from './events.js';
export type { ExpiringIceServers, IceServers } from './ice-servers.js';
export type { HLC, Operation } from './operation.js';
export type { PeerState } from './generated/PeerState.js';
export type { PeerStatus } from './generated/PeerStatus.js';
export type { Status } from './generated/Status.js';
export type { StorageReport } from './storage-report.js';
export { SQLLayer, type SQLLayerOptions } from './sql-layer.js';
export { WebRTCManager, type WebRTCManagerOptions } from './webrtc-manager.js';
export type { FileBytes, QueryResult, SqlInput, SqlParams, SqlValue } from './values.js';
