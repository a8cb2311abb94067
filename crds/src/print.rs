//! The definitions as YAML, as `tidings crds` prints them and the chart has them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::sink::Sink;
use crate::subscription::Subscription;

/// A definition that cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("failed to write a definition as YAML")]
pub struct Error(#[from] serde_saphyr::ser::Error);

/// Every definition.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [Subscription::definition(), Sink::definition()]
}

/// Every definition as one YAML stream, for `kubectl apply -f -`.
pub fn yaml() -> Result<String, Error> {
    definitions().iter().map(document).collect()
}

fn document(definition: &CustomResourceDefinition) -> Result<String, Error> {
    Ok(format!("---\n{}", serde_saphyr::to_string(definition)?))
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    #[test]
    fn the_chart_has_the_definitions() {
        // To bring them up to date: UPDATE_EXPECT=1 cargo test -p tidings-crds
        let [subscription, sink] = definitions();
        let crds = |definition| document(definition).unwrap();
        expect_file!["../../charts/tidings/crds/subscriptions.tidings.dev.yaml"]
            .assert_eq(&crds(&subscription));
        expect_file!["../../charts/tidings/crds/sinks.tidings.dev.yaml"].assert_eq(&crds(&sink));
    }

    #[test]
    fn the_yaml_reads_back_as_the_definitions() {
        let read: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(&yaml().unwrap()).unwrap();
        assert_eq!(read, definitions());
    }
}
