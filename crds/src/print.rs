//! The definitions as YAML, as `tidings crds` prints them and the chart has them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::subscription::Subscription;

/// A definition that cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("failed to write a definition as YAML")]
pub struct Error(#[from] serde_saphyr::ser::Error);

/// Every definition.
pub fn definitions() -> [CustomResourceDefinition; 1] {
    [Subscription::definition()]
}

/// Every definition as one YAML stream, for `kubectl apply -f -`.
pub fn yaml() -> Result<String, Error> {
    let mut text = String::new();
    for definition in definitions() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    #[test]
    fn the_chart_has_the_definition() {
        // To bring it up to date: UPDATE_EXPECT=1 cargo test -p tidings-crds
        expect_file!["../../charts/tidings/crds/subscriptions.tidings.dev.yaml"].assert_eq(&yaml().unwrap());
    }

    #[test]
    fn the_yaml_reads_back_as_the_definition() {
        let read: CustomResourceDefinition = serde_saphyr::from_str(&yaml().unwrap()).unwrap();
        assert_eq!(read, Subscription::definition());
    }
}
