//! What the derived definitions need to be as strict as they read.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

/// What is optional can be left out. To the CEL function `has`, a null that the schema lets through is a value.
pub(crate) fn refuse_null(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        version
            .schema
            .iter_mut()
            .filter_map(|schema| schema.open_api_v3_schema.as_mut())
            .for_each(refuse_null_in);
    }
    definition
}

fn refuse_null_in(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(refuse_null_in);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        refuse_null_in(items);
    }
}
