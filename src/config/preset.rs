//! What services that are often remotes take and forbid, as settings of a bridge.

use super::bridge::{Bridge, Version};
use super::kinds::Word;
use std::time::Duration;

/// A service that is often the remote of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// None in particular.
    None,
    /// AWS IoT Core.
    AwsIot,
    /// Azure IoT Hub.
    AzureIotHub,
    /// The MQTT broker of Azure Event Grid.
    AzureEventGrid,
    /// HiveMQ Cloud.
    HiveMqCloud,
    /// mosquitto.
    Mosquitto,
}

pub(super) const PRESET: Word<Preset> = Word(&[
    ("none", Preset::None),
    ("aws-iot", Preset::AwsIot),
    ("azure-iot-hub", Preset::AzureIotHub),
    ("azure-event-grid", Preset::AzureEventGrid),
    ("hivemq-cloud", Preset::HiveMqCloud),
    ("mosquitto", Preset::Mosquitto),
]);

impl Preset {
    /// Its name in the config.
    pub(super) fn name(self) -> &'static str {
        PRESET.word(&self)
    }

    /// The settings of a bridge to it.
    pub(super) fn settings(self) -> Bridge {
        let plain = Bridge::default();
        // None of the services in the cloud takes the flag, or anything beneath $SYS.
        let cloud = Bridge { bridge_flag: false, notifications_local_only: true, ..Bridge::default() };
        match self {
            Self::None => plain,
            Self::AwsIot => Bridge {
                version: Version::V5,
                // The longest that a session is kept unless AWS was asked for more.
                session_expiry: Some(Duration::from_secs(3_600)),
                max_inflight: 100,
                receive_maximum: 100,
                max_packet_size: 128 << 10,
                max_qos: 1,
                max_topic_levels: 8,
                max_topic_length: 256,
                max_filters: 8,
                ..cloud
            },
            Self::AzureIotHub => Bridge {
                version: Version::V311,
                max_inflight: 16,
                max_packet_size: 256 << 10,
                max_qos: 1,
                retain_available: false,
                max_topic_length: 256,
                max_filters: 10,
                ..cloud
            },
            Self::AzureEventGrid => Bridge {
                version: Version::V5,
                session_expiry: Some(Duration::from_secs(3_600)),
                max_inflight: 16,
                receive_maximum: 16,
                max_packet_size: 512 << 10,
                max_qos: 1,
                max_topic_levels: 8,
                max_topic_length: 256,
                max_filters: 10,
                ..cloud
            },
            Self::HiveMqCloud => Bridge {
                version: Version::V5,
                session_expiry: Some(Duration::from_secs(3 * 86_400)),
                max_inflight: 10,
                max_packet_size: 5 << 20,
                ..cloud
            },
            // It sends twenty at a time, whatever it may.
            Self::Mosquitto => Bridge { receive_maximum: 20, ..plain },
        }
    }
}
