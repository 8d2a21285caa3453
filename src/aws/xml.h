/*-------------------------------------------------------------------------
 *
 * xml.h
 *	  As much XML as STS sends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_XML_H
#define AWS_XML_H

/*
 * Called for each element without elements inside it.  path: the names from the
 * root on, with slashes between them; text: unescaped, without blanks around
 * it, NUL-terminated; it is valid as long as the document.
 */
typedef void (*XmlLeaf) (const char *path, char *text, void *arg);

/*
 * Read a document in place.  False if it is not well-formed as far as this
 * reader understands; some leaves may have been reported before that shows.
 */
extern bool aws_xml_leaves(char *data, size_t len, XmlLeaf leaf, void *arg);

#endif							/* AWS_XML_H */
