//! Registries of clouds whose login is an exchange of its own: the keys, and which of them exist here.
//!
//! The keys are read strictly, so that a pipeline with a mistake in them is told so.

use super::fields::Fields;
use crate::front::failure::Failure;
use crate::registry::Secret;

/// Login by a cloud's own means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    /// Amazon's container registry.
    Aws {
        /// `aws_region`.
        region: String,
        /// `aws_access_key_id` and `aws_secret_access_key`.
        keys: Option<(String, Secret)>,
        /// `aws_session_token`.
        session_token: Option<Secret>,
        /// Roles to assume, one after the other.
        roles: Vec<String>,
        /// Account of the registry.
        account: Option<String>,
    },
    /// Azure's container registry.
    Azure {
        /// `azure_client_id`.
        client_id: Option<String>,
        /// `azure_tenant_id`.
        tenant_id: Option<String>,
        /// `azure_environment`.
        environment: Option<String>,
    },
}

impl Cloud {
    /// Reads the keys of all clouds.
    pub(super) fn parse(fields: &mut Fields) -> Result<Option<Self>, Failure> {
        let aws = aws(fields)?;
        let azure = azure(fields)?;
        match (aws, azure) {
            (Some(_), Some(_)) => {
                Err(Failure::misuse("`source.aws_region` and `source.azure_acr` exclude each other"))
            }
            (aws, azure) => Ok(aws.or(azure)),
        }
    }

    /// Returns the full name of a repository that was written without its registry.
    pub(super) fn repository(&self, written: &str) -> String {
        match self {
            Self::Aws { region, account: Some(account), .. } if !written.contains(".amazonaws.com/") => {
                format!("{account}.dkr.ecr.{region}.amazonaws.com/{written}")
            }
            _ => written.to_owned(),
        }
    }

    /// Says that the exchange does not exist here, and what does instead.
    pub(super) fn refusal(&self) -> Failure {
        match self {
            Self::Aws { .. } => Failure::misuse("`source.aws_region`: login to ECR by AWS keys is not built in yet").hint(
                "set `source.username: AWS` and `source.password` to what `aws ecr get-login-password` prints",
            ),
            Self::Azure { .. } => Failure::misuse("`source.azure_acr`: login by Azure identities is not built in yet").hint(
                "set `source.username` and `source.password` to a service principal or a token of the registry",
            ),
        }
    }
}

fn aws(fields: &mut Fields) -> Result<Option<Cloud>, Failure> {
    let region = fields.text("aws_region")?;
    let (key, secret) = (fields.text("aws_access_key_id")?, fields.text("aws_secret_access_key")?);
    let session_token = fields.text("aws_session_token")?.map(Secret::new);
    let role = fields.text("aws_role_arn")?;
    let mut roles = fields.texts("aws_role_arns")?;
    let account = fields.scalar("aws_account_id")?;
    let old_account = fields.scalar("aws_ecr_registry_id")?;
    if role.is_some() && !roles.is_empty() {
        return Err(Failure::misuse("`source.aws_role_arn` and `source.aws_role_arns` exclude each other"));
    }
    roles.extend(role);
    let keys = match (key, secret) {
        (Some(key), Some(secret)) => Some((key, Secret::new(secret))),
        (None, None) => None,
        _ => {
            return Err(Failure::misuse(
                "`source.aws_access_key_id` and `source.aws_secret_access_key` belong together",
            ));
        }
    };
    let Some(region) = region else { return Ok(None) };
    Ok(Some(Cloud::Aws { region, keys, session_token, roles, account: account.or(old_account) }))
}

fn azure(fields: &mut Fields) -> Result<Option<Cloud>, Failure> {
    let wanted = fields.switch("azure_acr")?;
    let cloud = Cloud::Azure {
        client_id: fields.text("azure_client_id")?,
        tenant_id: fields.text("azure_tenant_id")?,
        environment: fields.text("azure_environment")?,
    };
    Ok(wanted.then_some(cloud))
}

#[cfg(test)]
mod tests {
    use super::super::source::tests::parse;

    #[test]
    fn keys_of_clouds_are_read_and_their_contradictions_refused() {
        let aws = parse(
            r#"{"repository":"app","aws_region":"eu-central-1","aws_account_id":123456789012,"aws_role_arns":["a","b"]}"#,
        )
        .unwrap();
        assert_eq!(aws.repository.to_string(), "123456789012.dkr.ecr.eu-central-1.amazonaws.com/app");
        let refusal = aws.cloud.unwrap().refusal();
        assert!(refusal.message.contains("`source.aws_region`"), "{refusal:?}");
        let azure = parse(r#"{"repository":"x.azurecr.io/app","azure_acr":true}"#).unwrap();
        assert!(azure.cloud.unwrap().refusal().message.contains("`source.azure_acr`"));
        assert_eq!(parse(r#"{"repository":"a","aws_account_id":"1"}"#).unwrap().cloud, None);
        for (keys, expected) in [
            (r#""aws_role_arn":"a","aws_role_arns":["b"]"#, "exclude each other"),
            (r#""aws_access_key_id":"a""#, "belong together"),
            (r#""aws_region":"a","azure_acr":true"#, "exclude each other"),
        ] {
            let failure = parse(&format!(r#"{{"repository":"a",{keys}}}"#)).unwrap_err();
            assert!(failure.message.contains(expected), "{failure:?}");
        }
    }
}
